"""Reading a dataset: its committed clips and videos as SQL tables, and single clips out of the shards."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from autorecap.base.errors import ForeseenError
from autorecap.dataset.log import LATENTS, SEGMENTS, DatasetError
from autorecap.dataset.schemas import INDEX_SCHEMA, LATENT_INDEX, LATENT_LEDGER, LEDGER_SCHEMA
from autorecap.dataset.snapshot import Snapshot
from autorecap.dataset.sql import ask, connect


class NoSuchClip(ForeseenError):
    """No committed clip has this key. The message names near ones."""


@dataclass(frozen=True)
class StoredClip:
    """A clip as it lies in its shard."""

    row: dict[str, Any]  # its row of the index
    meta: dict[str, Any]
    flac: bytes


class DatasetView(Snapshot):
    """A dataset as committed at the moment of opening, as SQL tables. Raises DatasetError where there is none."""

    def __init__(self, url: str, *, with_clips: bool = True) -> None:
        """`with_clips`: whether there is a table of clips, for which all of the index is read."""
        super().__init__(url)
        self.with_clips = with_clips

    @cached_property
    def sql(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with the tables `clips` (the index) and `videos` (the ledger, latest row per video).

        In a dataset of segments `clips` are the spans that were found: what is not known of them yet is null. Of a
        dataset of latents the second is `shards`: what became of each shard of the clips.
        """
        connection = connect()
        is_latents = self.kind == LATENTS
        index, ledger = (LATENT_INDEX, LATENT_LEDGER) if is_latents else (INDEX_SCHEMA, LEDGER_SCHEMA)
        if self.with_clips:
            rows = self._segments() if self.kind == SEGMENTS else self._table("index", index)
            connection.register("index_rows", rows)
            connection.execute("create view clips as select * exclude (commit_order) from index_rows")
        connection.register("ledger_rows", self._table("ledger", ledger))
        if is_latents:
            connection.execute("create view shards as select * exclude (commit_order) from ledger_rows")
            return connection
        connection.execute(
            "create view videos as select * exclude (commit_order) from ledger_rows "
            "qualify row_number() over (partition by row order by commit_order desc) = 1"
        )
        return connection

    @property
    def tables(self) -> tuple[str, str]:
        """The names of the tables that a query can name."""
        return "clips", "shards" if self.kind == LATENTS else "videos"

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Return the result of a query, a dict per row. Raises BadQuery."""
        hint = f"The tables are {' and '.join(self.tables)}: try --sql 'describe clips'"
        result = ask(self.sql, query, parameters, hint=hint)
        return [] if result is None else result.to_pylist()

    def clip(self, key: str) -> StoredClip:
        """Read one clip by its row of the index. Raises NoSuchClip."""
        if self.kind == LATENTS:
            raise NoSuchClip(f"{self.store.url} holds latents and no sound: name the dataset that they were made of")
        rows = self.rows("select * from clips where key = ?", key)
        if not rows:
            near = self.rows("select key from clips order by jaro_winkler_similarity(key, ?) desc limit 3", key)
            hint = f"near: {', '.join(row['key'] for row in near)}" if near else "the dataset has no clips"
            raise NoSuchClip(f"no clip {key!r} in {self.store.url}; {hint}")
        row = rows[0]
        if row["shard"] is None:
            raise NoSuchClip(f"{key} is a segment and has no audio yet: build a dataset of clips from {self.store.url}")
        flac = self.store.read_range(row["shard"], row["offset"], row["offset"] + row["size"])
        meta = self.store.read_range(row["shard"], row["json_offset"], row["json_offset"] + row["json_size"])
        if len(flac) != row["size"] or not flac.startswith(b"fLaC") or not meta.endswith(b"}"):
            raise DatasetError(f"{self.store.url}/{row['shard']} is damaged at {key}: restore it from a copy")
        return StoredClip(row, json.loads(meta), flac)

    def _segments(self) -> pa.Table:
        """Return the spans of a dataset of segments as rows of an index."""
        known = ("row", "video_id", "title", "source")
        rows = [_numbered(INDEX_SCHEMA.empty_table(), 0)]
        for order, videos in enumerate(self.read_tables(self.state.names(SEGMENTS))):
            clips = videos["clips"].combine_chunks()
            of_video, spans = pc.list_parent_indices(clips), pc.list_flatten(clips)
            start, end = spans.field("start_ms"), spans.field("end_ms")
            columns = {name: videos[name].take(of_video) for name in known}
            parts = [columns["video_id"], *(pc.cast(each, pa.string()) for each in (start, end)), "_"]
            columns |= {"key": pc.binary_join_element_wise(*parts), "start_ms": start, "end_ms": end}
            columns |= {"duration_ms": pc.subtract(end, start)}
            rows.append(_numbered(pa.table(columns), order))
        return pa.concat_tables(rows, promote_options="default")

    def _table(self, folder: str, schema: pa.Schema) -> pa.Table:
        """Read a whole table, with every column of the schema: null where a file is older than the column."""
        tables = self.read_tables(self.state.names(folder))
        numbered = [_numbered(table, order) for order, table in enumerate(tables)]
        return pa.concat_tables([_numbered(schema.empty_table(), 0), *numbered], promote_options="default")


def _numbered(table: pa.Table, order: int) -> pa.Table:
    """Return the table with the order of its commit in a column: the latest ledger row of a video wins."""
    return table.append_column("commit_order", pa.array([order] * len(table), pa.int64()))
