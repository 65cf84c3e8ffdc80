"""Groups the clips that lists state by video: a sorted stream of clips in, a list of clips for each video out."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autorecap.pipeline.plan.plan import PLAN_SCHEMA


class ClipStream:
    """A stream of clips in the order of their videos, taken video by video."""

    def __init__(self, stream: Iterable[pa.Table]) -> None:
        self.stream = iter(stream)
        self.waiting = pa.table({})
        self.at_end = False

    def of(self, videos: np.ndarray) -> pa.Array:
        """Take the clips of these videos, which come in order: a list per video, in the order of time."""
        last = videos[-1]
        pieces = [self.waiting] if len(self.waiting) else []
        while not self.at_end and not (pieces and pieces[-1]["video"][-1].as_py() > last):
            piece = next(self.stream, None)
            if piece is None:
                self.at_end = True
            elif len(piece):
                pieces.append(piece)
        if not pieces:
            return _lists(np.zeros(len(videos) + 1, np.int32), None)
        table = pa.concat_tables(pieces).combine_chunks()
        owners = table["video"].to_numpy()
        end = int(np.searchsorted(owners, last, side="right"))
        self.waiting = table.slice(end)
        table = without_repeats(table.slice(0, end))
        owners = table["video"].to_numpy()
        offsets = np.append(np.searchsorted(owners, videos), len(owners)).astype(np.int32)
        return _lists(offsets, table)


def _lists(offsets: np.ndarray, table: pa.Table | None) -> pa.Array:
    kind = PLAN_SCHEMA.field("clips").type
    if table is None:
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array([], kind.value_type))
    fields = [kind.value_type.field(i) for i in range(kind.value_type.num_fields)]
    columns = []
    for wanted in fields:
        known = wanted.name in table.schema.names
        column = table[wanted.name].combine_chunks() if known else pa.nulls(len(table), wanted.type)
        column = column.cast(wanted.type)
        columns.append(pc.fill_null(column, "") if wanted.type == pa.string() else column)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(columns, fields=fields))


def without_repeats(table: pa.Table) -> pa.Table:
    """Make one clip of a span that several rows state, with all that is said of it; captions on lines of their own."""
    if len(table) < 2:
        return table
    keys = [table[name].to_numpy() for name in ("video", "start_ms", "end_ms")]
    is_first = np.ones(len(table), bool)
    is_first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    firsts = np.flatnonzero(is_first)
    if len(firsts) == len(table):
        return table
    ends = np.append(firsts[1:], len(table))
    captions, scores = table["caption"].to_pylist(), table["clap_score"].to_pylist()
    originals, tags = table["original_caption"].to_pylist(), table["tags"].to_pylist()
    merged: dict[str, list[Any]] = {"caption": [], "clap_score": [], "original_caption": [], "tags": []}
    for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
        captioned = next((i for i in range(first, end) if captions[i]), first)
        merged["caption"].append(captions[captioned])
        merged["clap_score"].append(scores[captioned])
        merged["original_caption"].append("\n".join(dict.fromkeys(text for text in originals[first:end] if text)))
        merged["tags"].append(list(dict.fromkeys(tag for some in tags[first:end] for tag in some or ())))
    table = table.take(pa.array(firsts))
    for name, values in merged.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    return table
