"""Frozen dataclasses from plain values, as a config.json holds them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

Config = TypeVar("Config")


def from_dict(cls: type[Config], values: Mapping[str, Any], path: str = "config") -> Config:
    """The inverse of `dataclasses.asdict`. Raises ValueError for a name that no setting has."""
    unknown = sorted(set(values) - {f.name for f in fields(cls)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"{path}: no setting is called {', '.join(unknown)}")
    hints = get_type_hints(cls)
    built = {}
    for name, value in values.items():
        if is_dataclass(hints[name]):
            value = from_dict(hints[name], value, f"{path}.{name}")
        built[name] = tuple(value) if isinstance(value, list) else value
    return cls(**built)
