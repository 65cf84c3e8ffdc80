"""Frozen dataclasses are built from plain values, as a config.json holds them, and their settings are checked."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def from_dict(cls: type[Config], values: Mapping[str, Any], path: str = "config") -> Config:
    """Builds a dataclass from plain values: the inverse of `dataclasses.asdict`.

    Raises ValueError for a name that no setting has, and a value that is not of the setting's type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} is {values!r:.40}: expected settings by name")
    unknown = sorted(set(values) - {f.name for f in fields(cls)})
    if unknown:
        raise ValueError(f"{path}: no setting is called {', '.join(unknown)}")
    hints = get_type_hints(cls)
    return cls(**{name: _typed(hints[name], value, f"{path}.{name}") for name, value in values.items()})


def _typed(kind: Any, value: Any, path: str) -> Any:
    """Returns the value as a setting of this type holds it: JSON has no tuples, and may write 1.0 as 1."""
    if isinstance(kind, type) and is_dataclass(kind):
        return value if is_dataclass(value) else from_dict(kind, value, path)
    if isinstance(kind, UnionType):
        return value  # of several kinds: the caller has built it
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path} is {value!r:.40}: expected a list")
        return tuple(_typed(get_args(kind)[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    accepted = (int, float) if kind is float else kind
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool) or not is_finite:
        raise ValueError(f"{path} is {value!r:.40}: expected {_NAMES[kind]}")
    return value


def check_positive(what: str, config: object, *names: str) -> None:
    """Raises ValueError that names a setting of `what` which is less than 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{what}: {name} is {getattr(config, name)}: write 1 or more")


def check_share(what: str, config: object, *names: str) -> None:
    """Raises ValueError that names a setting of `what` which is not a share of things that are left out."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{what}: {name} is {getattr(config, name)}: write a share of at least 0 and less than 1")


def check_heads(what: str, width: int, num_heads: int) -> None:
    """Raises ValueError where attention heads cannot share the channels."""
    if width % num_heads:
        raise ValueError(f"{what}: a width of {width} does not divide into {num_heads} heads")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
