"""Declarations of settings: default, meaning and allowed values stand beside each other in one line of a dataclass.

A part of the program takes one frozen dataclass that derives from `Section`. Each field is made by `setting`, which
also keeps whether the field changes what a build produces: only such fields enter the fingerprint of a dataset.
"""

from collections.abc import Collection
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from autorecap.base.text import redacted

Settings = TypeVar("Settings", bound=Any)


FILE = "file"
MODEL = "model"


class SettingError(ValueError):
    """A setting cannot be used. `name` is section.field; `problem`: what was expected and found, or what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)  # as it is pickled, on its way from a worker
        self.name, self.problem = name, redacted(problem)

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def setting(
    default: Any,
    doc: str,
    *,
    results: bool = False,
    path: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: Collection[str] | None = None,
    filled: bool = False,
) -> Any:
    """Return a dataclass field with its meaning and its allowed values.

    default: the value, or the class or function that makes it
    doc: what the setting does, its unit, why this default
    results: the setting changes the dataset or the weights that come out
    path: FILE for the path of a file or folder; MODEL for a folder of that name where there is one, else a hub id or a
        word. Workers start elsewhere, so paths are made absolute before (`absolute_paths`)
    ge, gt, le, lt: bounds of a number: from, above, up to, below. None passes; in a list each element must hold them
    choices: the words that are allowed, in a list for each element
    filled: no text may be empty, and a list must hold some
    """
    metadata = {
        "doc": doc,
        "results": results,
        "path": path,
        "bounds": {"ge": ge, "gt": gt, "le": le, "lt": lt},
        "choices": choices,
        "filled": filled,
    }
    if isinstance(default, (list, dict, set)):
        raise TypeError("a default must be immutable: use a tuple")
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of all dataclasses of settings: checks every field as it is declared, then calls `validate`.

    `name` is where the section stands in a file of settings, such as "captions"; "" at the top.
    """

    section_name: ClassVar[str]

    def __init_subclass__(cls, *, name: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.section_name = name

    def __post_init__(self) -> None:
        for each in fields(self):
            problem = _problem(each, getattr(self, each.name))
            check(not problem, f"{self.section_name}.{each.name}".lstrip("."), problem)
        self.validate()

    def validate(self) -> None:
        """Refuse, with `check`, what a declaration cannot say: above all values that do not go together."""


def check(condition: bool, name: str, problem: str) -> None:
    """Raise SettingError unless `condition` holds. `problem`: what was expected and found, or what to do."""
    if not condition:
        raise SettingError(name, problem)


def allowed_values(declared: Field[Any]) -> str:
    """Return the values that a setting may have: "1 to 32", "more than 0", "auto, cpu or cuda"; "" for any."""
    if choices := declared.metadata["choices"]:
        *most, last = choices
        return f"{', '.join(most)} or {last}" if most else last
    bounds = declared.metadata["bounds"]
    ge, gt, le, lt = (bounds[name] for name in ("ge", "gt", "le", "lt"))
    low = f"more than {gt}" if gt is not None else "" if ge is None else str(ge)
    if le is not None:
        return f"{low} to {le}" if low else f"{le} or less"
    if lt is not None:
        return f"{low} to below {lt}" if low else f"less than {lt}"
    return f"{low} or more" if ge is not None else low


def _problem(declared: Field[Any], value: Any) -> str:
    """Return what was expected and what was found; "" where the value is allowed."""
    if value is None:
        return ""
    takes_list = isinstance(declared.default, tuple)
    if takes_list and not isinstance(value, tuple):
        return f"expected a list, such as {_shown(declared.default)}, found {value!r}"
    values = value if takes_list else (value,)
    if declared.metadata["filled"] and not (values and all(isinstance(each, str) and each for each in values)):
        return f"expected a value, such as {_shown(declared.default)}, found {_shown(value) or 'nothing'}"
    for each in values:
        if not _is_allowed(declared, each):
            return f"expected {allowed_values(declared)}{' for each' if takes_list else ''}, found {each!r}"
    return ""


def _is_allowed(declared: Field[Any], value: Any) -> bool:
    choices, bounds = declared.metadata["choices"], declared.metadata["bounds"]
    return (
        (choices is None or value in choices)
        and (bounds["ge"] is None or value >= bounds["ge"])  # NaN is refused, since no comparison with it holds
        and (bounds["gt"] is None or value > bounds["gt"])
        and (bounds["le"] is None or value <= bounds["le"])
        and (bounds["lt"] is None or value < bounds["lt"])
    )


def _shown(value: Any) -> str:
    """Return the value as one would write it in YAML."""
    return f"[{', '.join(str(each) or repr(each) for each in value)}]" if isinstance(value, tuple) else str(value)


def result_settings(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return name and value of every setting that changes results, as a part of a dataset's or a run's identity."""
    values: dict[str, Any] = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            values |= result_settings(value, f"{prefix}{each.name}.")
        elif each.metadata.get("results"):
            values[prefix + each.name] = list(value) if isinstance(value, tuple) else value
    return values


def absolute_paths(settings: Settings, words: Collection[str] = ()) -> Settings:
    """Return the settings with all paths in them made absolute.

    `words`: values that stand for themselves, even where a folder has the same name.
    """
    changed: dict[str, Any] = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            changed[each.name] = absolute_paths(value, words)
        elif each.metadata.get("path"):
            is_file = each.metadata["path"] == FILE
            one = isinstance(value, str)
            paths = tuple(_absolute(text, is_file, words) for text in ((value,) if one else value))
            changed[each.name] = paths[0] if one else paths
    return replace(settings, **changed)


def _absolute(text: str, is_file: bool, words: Collection[str]) -> str:
    if not text or "://" in text or text in words:  # a URL is absolute, also one of a local file
        return text
    path = Path(text).expanduser()
    return str(path.absolute()) if is_file or path.is_dir() else text
