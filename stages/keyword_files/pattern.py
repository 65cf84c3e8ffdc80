"""The notation of keyword files, compiled to one regular expression.

An entry is a row of tokens, and a token is a set of words, or `...`. Every set becomes a tree of letters and the
entries become a tree of tokens, so that a word of a caption is compared with the hundreds of words of a file letter by
letter, not word by word, and entries that begin alike are followed together.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

MAX_GAP_WORDS = 4  # of `...`: "frogs in the pond nearby sing" still belongs together, much longer spans rarely do

_LITERAL = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_TOKEN = re.compile(r"<(?P<list>[^<>]+)>|(?P<stem>[^()<>\[\]]+)(?:\((?P<optional>[^()]+)\)|\[(?P<endings>[^\[\]]+)\])?")
_SLASH = re.compile(r"/(?![^()\[\]]*[)\]])")  # between words, not between the endings of one
_MARK = "\0"  # set behind each word that `...` may not step over; no normalised text holds it
# Between two words of a phrase: "birds' song", "bird's song" and "bird-song" are all bird song.
_SPACE = r"\0?(?:'s?)?[ -]+"
# `...` never starts with `and`: in "a man walks a dog and sings" the dog is not the singer.
_GAP = rf"(?!{_SPACE}(?:and|or)\b)(?:{_SPACE}\w+(?!\w|\0)){{0,{MAX_GAP_WORDS}}}?"
_NO_WORD = r"(?!)"  # matches nowhere

# Zero-width and other format characters (category Cf, with the soft hyphen) are dropped by `normalise`; these change,
# before NFKC, which would take the acute accent apart, and after it, which makes full-width ones plain.
_CHARACTERS = str.maketrans(
    {"_": " ", "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"} | dict.fromkeys("‐‑‒–—―−", "-")
)


def normalise(text: str) -> str:
    """Return the text as the filter compares it: NFKC, folded case, plain apostrophes and hyphens, single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).casefold()
        text = unicodedata.normalize("NFKC", text).translate(_CHARACTERS)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    else:
        text = text.replace("_", " ").replace("`", "'").lower()
    return " ".join(text.replace(_MARK, " ").split())


@dataclass(frozen=True, kw_only=True)
class CompiledKeywords:
    """A keyword file, compiled."""

    plain: tuple[str, ...]  # the keywords that are words, not patterns
    stop: re.Pattern[str]  # what `...` may not step over
    decides: re.Pattern[str]  # groups `allowed` and `keyword`, over a text in which stops are marked

    def first_keyword(self, text: str) -> str | None:
        """Return the first keyword of a normalised text that no exception covers."""
        # Marking the stops first keeps `...` short: else each `...` of the pattern would list all of them.
        marked = self.stop.sub(rf"\g<0>{_MARK}", text)
        for match in self.decides.finditer(marked):
            if match.lastgroup == "keyword":
                return match["keyword"].replace(_MARK, "")
        return None


class NotationError(ValueError):
    """An entry breaks the rules of the notation; says which entry and how."""

    def __init__(self, entry: str, problem: str) -> None:
        super().__init__(f"`{entry}`: {problem}")
        self.entry = entry


class Compiler:
    """Compiles entries. Raises NotationError for one that breaks the rules."""

    def __init__(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        self.lists = {normalise(name): entries for name, entries in lists.items()}
        self._known: dict[str, tuple[str, ...]] = {}
        self._open: list[str] = []  # lists being expanded, to find one that holds itself

    def compile(self, keywords: Sequence[str], exceptions: Sequence[str], stops: Sequence[str]) -> CompiledKeywords:
        plain = {word for entry in keywords if not _is_pattern(entry) for word in self._plain(entry)}
        stop = _alternation(plain | {word for entry in stops for word in self._plain(entry)})
        allowed = self._phrases(exceptions)
        named = self._phrases([entry for entry in keywords if _is_pattern(entry)])
        return CompiledKeywords(
            plain=tuple(sorted(plain)),
            stop=re.compile(rf"\b{stop}\b"),
            decides=re.compile(rf"\b(?:(?P<allowed>{allowed})|(?P<keyword>{_alternation(plain)}\b|{named}))\b"),
        )

    def _phrases(self, entries: Iterable[str]) -> str:
        """Join all entries into one pattern, the longest first: "birds sing a song" must win over "birds sing"."""
        ordered = sorted(set(entries), key=lambda entry: (-len(entry.split()), entry))
        if not ordered:
            return _NO_WORD
        joined = _join([self._phrase(entry) for entry in ordered])
        heads = _alternation(word for entry in ordered for word in self._words(_tokens(entry)[0], entry))
        return rf"(?={heads}\b)(?:{joined})"  # most words of a caption begin no entry

    def _phrase(self, entry: str) -> tuple[str, ...]:
        """Return one piece of pattern per word; optional words and gaps are part of the piece that follows."""
        tokens = _tokens(entry)
        followed_by = ""
        if tokens[-1].startswith("!"):
            followed_by = rf"(?!{_SPACE}{_alternation(self._words(tokens.pop()[1:], entry))}\b)"
        if not tokens or tokens[0] == "..." or tokens[-1] == "..." or tokens[0].endswith("?"):
            raise NotationError(entry, "it must begin and end with a word; `...` and `word?` stand between words")
        pieces: list[str] = []
        skipped = ""
        for word in tokens:
            if word == "...":
                skipped += _GAP
            elif word.endswith("?"):
                skipped += rf"(?:{_SPACE}{_alternation(self._words(word[:-1], entry))}\b)?"
            else:
                space = skipped + _SPACE if pieces else ""
                pieces.append(rf"{space}{_alternation(self._words(word, entry))}\b")
                skipped = ""
        return (*pieces, skipped + followed_by) if skipped or followed_by else tuple(pieces)

    def _plain(self, entry: str) -> Iterator[str]:
        """Yield all readings of an entry without `...`, `?` and `!`."""
        if _is_pattern(entry, lists=False):
            raise NotationError(entry, "here only words, `a/b`, `word(s)` and `<list>` can stand")
        for words in product(*(self._words(token, entry) for token in _tokens(entry))):
            yield " ".join(words)

    def _words(self, token: str, entry: str) -> tuple[str, ...]:
        """Return all words that one token stands for."""
        words: list[str] = []
        for choice in _SLASH.split(token):
            match = _TOKEN.fullmatch(choice)
            if match is None:
                raise NotationError(entry, f"`{choice}` is not understood")
            if match["list"]:
                words.extend(self._list(match["list"], entry))
                continue
            endings = (match["optional"] or match["endings"] or "").split("/")
            words.extend(match["stem"] + ending for ending in endings)
            if match["optional"]:
                words.append(match["stem"])
        for word in words:
            if not all(map(_LITERAL.fullmatch, word.split())) or not word:
                raise NotationError(entry, f"`{word}` is not a word")
        return tuple(words)

    def _list(self, name: str, entry: str) -> tuple[str, ...]:
        if name not in self.lists:
            raise NotationError(entry, f"`<{name}>` is not in `lists`, which has {', '.join(self.lists) or 'none'}")
        if name in self._open:
            raise NotationError(entry, f"`<{name}>` holds itself")
        if name not in self._known:
            self._open.append(name)
            self._known[name] = tuple(word for item in self.lists[name] for word in self._plain(item))
            self._open.pop()
        return self._known[name]


def _tokens(entry: str) -> list[str]:
    """Split an entry at spaces, but not inside <a list of several words>."""
    return re.findall(r"(?:<[^<>]*>|\S)+", entry)


def _is_pattern(entry: str, *, lists: bool = True) -> bool:
    return any(sign in entry for sign in ("...", "?", "!")) or (lists and "<" in entry)


def _join(phrases: Sequence[tuple[str, ...]]) -> str:
    """Join phrases as alternatives; those that begin with the same piece share it."""
    by_head: dict[str, list[tuple[str, ...]]] = {}
    for head, *rest in phrases:
        by_head.setdefault(head, []).append(tuple(rest))
    return "|".join(head + _rest(rests) for head, rests in by_head.items())


def _rest(rests: Sequence[tuple[str, ...]]) -> str:
    longer = [rest for rest in rests if rest]
    if not longer:
        return ""
    return f"(?:{_join(longer)}{'|' if len(longer) < len(rests) else ''})"


def _alternation(words: Iterable[str]) -> str:
    """Return a pattern of exactly these words, as a tree of letters: one step per letter, not one per word."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _render(tree) if tree else _NO_WORD


def _render(node: dict[str, Any]) -> str:
    branches = [
        (_SPACE if letter == " " else re.escape(letter)) + (_render(rest) if rest.keys() != {""} else "")
        for letter, rest in sorted(node.items())
        if letter
    ]
    tail = branches[0] if len(branches) == 1 and "" not in node else f"(?:{'|'.join(branches)})"
    return tail + ("?" if "" in node else "")
