"""A field of a record has one declaration, and its Arrow type follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import pyarrow as pa
import pytest

from autorecap.base.columns import NOT_A_COLUMN, Int32, columns_of
from autorecap.stages.reasons import Status


class Word(NamedTuple):
    start_ms: int
    text: str


@dataclass
class Row:
    count: Int32
    score: float | None
    words: tuple[Word, ...]
    sound: bytes | None
    status: Status
    seconds: Mapping[str, float]
    scratch: Annotated[bytes | None, NOT_A_COLUMN]


def test_annotations_become_columns_in_their_order():
    word = pa.struct([("start_ms", pa.int64()), ("text", pa.string())])
    assert pa.schema(columns_of(Row)) == pa.schema(
        [
            ("count", pa.int32()),
            ("score", pa.float64()),
            ("words", pa.list_(word)),
            ("sound", pa.large_binary()),
            ("status", pa.string()),
            ("seconds", pa.map_(pa.string(), pa.float64())),
        ]
    )


@pytest.mark.parametrize("annotation", [complex, int | str, tuple[int, int], dict[str, int]])
def test_an_annotation_without_an_arrow_type_is_named(annotation):
    with pytest.raises(TypeError, match="no Arrow type is known for"):
        columns_of(type("Odd", (), {"__annotations__": {"field": annotation}}))
