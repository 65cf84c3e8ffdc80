"""Pickles are read without running anything: plain values are built, everything else becomes a name.

A pickle is a program. Python's unpickler imports what it names and calls it, so a checkpoint can run whatever its
author liked. Here the program is stepped through by hand: there is no import and no call in it, but for the functions
that the caller hands in. What a pickle wants to call besides them becomes a `Foreign`, which keeps the name and
swallows the rest: a checkpoint full of settings objects of libraries that are not installed reads like any other.

Opcodes: https://docs.python.org/3/library/pickletools.html, whose disassembler does the parsing.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO


class UnpickleError(ValueError):
    """The pickle is cut short, damaged, or not one that any pickler writes."""


@dataclass(frozen=True)
class Foreign:
    """A Foreign stands for a class or function that was named and not imported, or for what it was to make."""

    name: str


Maker = Callable[[tuple[Any, ...]], Any]


def unpickle(stream: BinaryIO, makers: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> Any:
    """Reads the next pickle of a stream as dicts, lists, tuples, strings, bytes, numbers, None and `Foreign`.

    `makers`: by dotted name, what is called in place of a global, with the tuple of its arguments.
    `persistent`: what a persistent id stands for.
    Of a dict the entries under strings and integers are kept: other keys may be costly to hash. A set is a list.
    Raises UnpickleError, and what the makers and `persistent` raise.
    """
    machine = _Machine(makers, persistent)
    operations = pickletools.genops(stream)
    position: int | None = 0
    while True:
        try:
            opcode, argument, position = next(operations)
        except (ValueError, StopIteration) as error:  # pickletools' own checks
            raise UnpickleError(f"after byte {position}: {str(error)[:100] or 'it ends too early'}") from None
        if opcode.name == "STOP":
            break
        try:
            machine.step(opcode.name, argument)
        except (IndexError, KeyError) as error:  # an empty stack, a memo that was never filled
            raise UnpickleError(f"byte {position}: {opcode.name} finds nothing to work on") from error
    if len(machine.stack) != 1 or machine.below:
        raise UnpickleError("it ends with more or less than one value")
    return machine.stack[0]


# What the opcode's argument is all there is to push, whichever way it was written.
_NUMBERS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"))
_TEXTS = frozenset(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"))
_BYTES = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_VALUES = _NUMBERS | _TEXTS | _BYTES
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MEMO_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_MEMO_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))
_EXTENSIONS = frozenset(("EXT1", "EXT2", "EXT4"))  # numbers for classes, by a registry of the process
_NOTHING = frozenset(("PROTO", "FRAME", "READONLY_BUFFER"))


class _Machine:
    """A pickle programs this stack machine."""

    def __init__(self, makers: Mapping[str, Maker], persistent: Callable[[Any], Any]) -> None:
        self.makers = makers
        self.persistent = persistent
        self.stack: list[Any] = []  # since the last mark
        self.below: list[list[Any]] = []  # what lies below each mark
        self.memo: dict[int, Any] = {}  # a dict: as an array, one high index would cost gigabytes

    def step(self, name: str, argument: Any) -> None:
        """Runs one opcode. Raises IndexError or KeyError where the stack or the memo has nothing for it."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _MEMO_PUT:
            self.memo[argument] = stack[-1]
        elif name in _MEMO_GET:
            stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            items = tuple(stack.pop() for _ in range(_TUPLES[name]))
            stack.append(items[::-1])
        elif name in _EXTENSIONS:
            stack.append(Foreign(f"extension {argument}"))
        elif name not in _NOTHING:
            self._step_rarer(name, argument)

    def _step_rarer(self, name: str, argument: Any) -> None:
        match name:
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "TUPLE" | "FROZENSET":
                items = self._since_mark()
                self.stack.append(tuple(items))
            case "LIST":
                items = self._since_mark()
                self.stack.append(items)
            case "DICT":
                items = self._since_mark()
                self.stack.append({})
                self._set(items)
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_LIST" | "EMPTY_SET":
                self.stack.append([])
            case "APPEND":
                self._extend([self.stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._since_mark())
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "GLOBAL":
                self.stack.append(Foreign(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.stack.pop(), self.stack.pop()
                self.stack.append(Foreign(f"{_text(module)}.{_text(attribute)}"))
            case "REDUCE" | "NEWOBJ":
                arguments, called = self.stack.pop(), self.stack.pop()
                self.stack.append(self._made(called, arguments))
            case "NEWOBJ_EX":
                _, arguments, called = (self.stack.pop() for _ in range(3))
                self.stack.append(self._made(called, arguments))
            case "OBJ":
                called, *rest = self._since_mark() or [None]
                self.stack.append(self._made(called, tuple(rest)))
            case "INST":
                arguments = tuple(self._since_mark())
                self.stack.append(self._made(Foreign(argument.replace(" ", ".", 1)), arguments))
            case "BUILD":  # the state of an object, which a plain value has none of and a foreign one needs none of
                self.stack.pop()
                self.stack[-1]
            case "PERSID":
                self.stack.append(self.persistent(argument))
            case "BINPERSID":
                self.stack.append(self.persistent(self.stack.pop()))
            case "POP":
                if self.stack:
                    self.stack.pop()
                else:
                    self._since_mark()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                self.stack.append(self.stack[-1])
            case "NEXT_BUFFER":
                self.stack.append(Foreign("buffer outside the pickle"))
            case _:
                raise UnpickleError(f"{name} is an opcode that is not known here")

    def _since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    def _made(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, Foreign):
            return Foreign("something that was no function")
        maker = self.makers.get(called.name)
        return maker(arguments) if maker and isinstance(arguments, tuple) else called

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise UnpickleError("a dict's last key has no value")
        if isinstance(self.stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            self.stack[-1].update((key, value) for key, value in pairs if isinstance(key, str | int))


def _text(part: Any) -> str:
    return part if isinstance(part, str) else "?"
