"""Finds the clips of a dataset that a condition chooses, and holds them as row numbers of the index."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autorecap.dataset.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa

_SELECTED = ("shard", "offset", "size", "duration_ms", "sample_rate_hz")
_FILES_AT_ONCE = 64  # of the index: more: more of it in memory; fewer: more queries
_NOT_OF_ONE_CLIP = re.compile(r"\b(?:select|over)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Chosen:
    """The chosen rows of the index files, in the order of their shards."""

    shards: list[tuple[str, str]] = field(repr=False)  # index file, shard
    sizes: NDArray[np.int64] = field(repr=False)  # clips of each
    rows: NDArray[np.uint32] = field(repr=False)  # in their index file
    bytes: int
    rates_hz: tuple[int, int]

    @property
    def digest(self) -> str:
        """SHA-256 of what fixes the clips: the index files are named by their content."""
        digest = hashlib.sha256(repr(self.shards).encode())
        digest.update(self.sizes.astype("<i8").tobytes() + self.rows.astype("<u4").tobytes())
        return digest.hexdigest()


def choose(snapshot: Snapshot, where: str) -> Chosen:
    """Return the clips for which an SQL condition on the index holds; "": all of them. Raises BadQuery."""
    parts: list[tuple[str, str, NDArray[np.uint32]]] = []
    num_bytes, rates = 0, [np.iinfo(np.int32).max, 0]
    for file_names, table in _tables(snapshot, None if where else _SELECTED):
        chosen = _where(table, where) if where else table
        if not len(chosen):
            continue
        chosen = chosen.sort_by([("shard", "ascending"), ("offset", "ascending")])
        num_bytes += int(np.sum(chosen.column("size").to_numpy()))
        hz = chosen.column("sample_rate_hz").to_numpy()
        rates = [min(rates[0], int(hz.min())), max(rates[1], int(hz.max()))]
        rows = chosen.column("row_number").to_numpy().astype(np.uint32)
        files = chosen.column("file_number").to_numpy()
        shards = chosen.column("shard").combine_chunks().dictionary_encode()
        codes = shards.indices.to_numpy()
        borders = np.flatnonzero(np.diff(codes) | np.diff(files)) + 1
        starts = [0, *borders.tolist()]
        words = shards.dictionary.to_pylist()
        parts += [
            (words[codes[start]], file_names[files[start]], part)
            for start, part in zip(starts, np.split(rows, borders), strict=True)
        ]
    parts.sort(key=lambda part: part[:2])
    return Chosen(
        shards=[(index, shard) for shard, index, _ in parts],
        sizes=np.array([len(rows) for *_, rows in parts], np.int64),
        rows=np.concatenate([rows for *_, rows in parts]) if parts else np.zeros(0, np.uint32),
        bytes=num_bytes,
        rates_hz=(rates[0], rates[1]),
    )


def _tables(snapshot: Snapshot, columns: Sequence[str] | None) -> "Iterator[tuple[Sequence[str], pa.Table]]":
    """Read the index, some files at a time, each row with the numbers of its file and of itself in it."""
    import pyarrow as pa

    from autorecap.dataset.schemas import INDEX_SCHEMA

    names = snapshot.state.names("index")
    empty = [INDEX_SCHEMA.empty_table()] if columns is None else []  # files may be older than a column
    for first in range(0, len(names), _FILES_AT_ONCE):
        some = names[first : first + _FILES_AT_ONCE]
        tables = [
            table.append_column("file_number", pa.array([number] * len(table), pa.int32())).append_column(
                "row_number", pa.array(range(len(table)), pa.int64())
            )
            for number, table in enumerate(snapshot.read_tables(some, columns))
        ]
        yield some, pa.concat_tables([*tables, *empty], promote_options="default")


def _where(table: "pa.Table", where: str) -> "pa.Table":
    """Return the rows for which an SQL condition holds. Raises BadQuery."""
    from autorecap.dataset.sql import BadQuery, ask, connect

    if _NOT_OF_ONE_CLIP.search(re.sub(r"'[^']*'", "", where)):
        raise BadQuery(f"the condition {where!r} must look at one clip by itself: write it without select and over")
    connection = connect()
    connection.register("clips", table)
    columns = ", ".join(f'"{name}"' for name in (*_SELECTED, "file_number", "row_number"))
    query = f"select {columns} from clips where ({where}\n)"  # noqa: S608  the user's own condition
    return ask(connection, query, hint=f"The columns are {', '.join(table.column_names[:-2])}")
