"""Reads the Arrow types of a record's fields off its annotations, so that a field is declared once."""

import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

NOT_A_COLUMN: Final = "not a column"
"""Annotates a field that never leaves the process: `Annotated[bytes | None, NOT_A_COLUMN]`."""
Int32 = Annotated[int, pa.int32()]
"""A small whole number; others have 64 bits."""

_PLAIN: dict[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),  # not float32, which would make -23.450000762939453 of -23.45
    str: pa.string(),
    bytes: pa.large_binary(),  # 32-bit offsets would overflow at 2 GB of audio
}


def columns_of(record: type) -> list[pa.Field]:
    """Return a field per annotated field of a dataclass or NamedTuple, in their order. Any of them may be null.

    Raises TypeError for an annotation that has no Arrow type.
    """
    hints = get_type_hints(record, include_extras=True)
    return [
        pa.field(name, _arrow_type(hint))
        for name, hint in hints.items()
        if NOT_A_COLUMN not in getattr(hint, "__metadata__", ())
    ]


def _arrow_type(hint: Any) -> pa.DataType:
    if hint in _PLAIN:
        return _PLAIN[hint]
    arguments = get_args(hint)
    match get_origin(hint):
        case None if isinstance(hint, type) and issubclass(hint, StrEnum):
            return pa.string()
        case None if isinstance(hint, type) and get_type_hints(hint):
            return pa.struct(columns_of(hint))
        case _ if hasattr(hint, "__metadata__"):  # Annotated: its second argument is the type
            return arguments[1]
        case origin if origin in (Union, types.UnionType) and len(arguments) == 2 and arguments[1] is type(None):
            return _arrow_type(arguments[0])
        case origin if origin is tuple and arguments[1:] == (...,):
            return pa.list_(_arrow_type(arguments[0]))
        case origin if origin is Mapping:
            return pa.map_(*map(_arrow_type, arguments))
    raise TypeError(f"no Arrow type is known for {hint}: see base/columns.py")
