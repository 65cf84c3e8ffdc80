"""How the options of a stage are declared.

A stage takes one frozen dataclass. Every field of it is made by `setting`, which keeps beside the default what the
option does and whether it changes what a build produces: only such fields enter the fingerprint of a dataset.
"""

from collections.abc import Collection
from dataclasses import field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

Settings = TypeVar("Settings", bound=Any)


FILE = "file"
MODEL = "model"


def setting(default: Any, doc: str, *, results: bool = False, path: str = "") -> Any:
    """A dataclass field. `doc`: what it does, its unit, why this default. `results`: does it change the dataset?

    `path`: FILE for the path of a file or folder; MODEL for a folder of that name where there is one, else a hub id or
    a word. Workers start elsewhere, so paths are made absolute before (`absolute_paths`).
    """
    metadata = {"doc": doc, "results": results, "path": path}
    if isinstance(default, (list, dict, set)):
        raise TypeError("a default must be immutable: use a tuple")
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def absolute_paths(settings: Settings, words: Collection[str] = ()) -> Settings:
    """The settings with the paths in them made absolute. `words`: what is no folder, though one may have that name."""
    changed: dict[str, Any] = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            changed[each.name] = absolute_paths(value, words)
        elif each.metadata.get("path"):
            is_file = each.metadata["path"] == FILE
            one = isinstance(value, str)
            found = tuple(_absolute(text, is_file, words) for text in ((value,) if one else value))
            changed[each.name] = found[0] if one else found
    return replace(settings, **changed)


def _absolute(text: str, is_file: bool, words: Collection[str]) -> str:
    if not text or "://" in text or text in words:
        return text
    path = Path(text).expanduser()
    return str(path.absolute()) if is_file or path.is_dir() else text


def check(condition: bool, message: str) -> None:
    """Refuse a setting. `message` names the field, what was found and what to write instead."""
    if not condition:
        raise ValueError(message)
