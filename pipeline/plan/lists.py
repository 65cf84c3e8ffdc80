"""Gathers lists of videos into rows of a plan: each video once, with the lists that name it and the clips they state.

Tens of millions of ids are sorted out by DuckDB within a memory limit: what does not fit goes to disk.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autorecap.base.errors import ForeseenError
from autorecap.base.text import printable
from autorecap.dataset.log import State
from autorecap.dataset.store import Store
from autorecap.pipeline.plan.list_clips import ClipStream
from autorecap.pipeline.plan.plan import PLAN_SCHEMA, Found, planned_ids
from autorecap.stages.origin import WATCH_URL
from autorecap.stages.sources.lists import Mentions, Thresholds, VideoList

MAX_MEMORY_MB = 1_000
"""For sorting; reading and writing take some hundred MB beside it."""
MAX_LISTS = 120
"""The lists that name a video are bits of one number, which DuckDB gives Arrow as a decimal of 38 digits."""
assert 2**MAX_LISTS < 10**38
_BATCH_ROWS = 65_536  # of the plan that are made at once
_SMALL_LIST_ROWS = 2_000_000
"""Up to so many rows, ids of the plan are looked up among those of the lists; beyond, copying the plan is cheaper."""
_PLACE_BITS = 40  # number the rows of one list: more than there are videos in the world
_DAMAGED_PER_FILE = 100_000  # lines: a file that an editor still opens


@contextmanager
def explained() -> Iterator[None]:
    """Turn what DuckDB raises where its files find no room into an error with a next step."""
    try:
        yield
    except duckdb.Error as error:
        raise ForeseenError(
            f"the lists cannot be sorted out: {error}. It takes up to 1 GB in {tempfile.gettempdir()} for 10 million "
            "rows: make room, or name another place in TMPDIR"
        ) from error


@dataclass
class Tally:
    """Counts of what became of the rows of one list.

    num_rows = damaged + filtered + excluded + planned + repeated + in_other_lists + new
    """

    source: VideoList
    damaged: int = 0
    filtered: int = 0  # no clip of them reaches the thresholds
    excluded: int = 0  # by --exclude
    planned: int = 0  # in the plan before
    repeated: int = 0  # the list has named the video before
    in_other_lists: int = 0  # a list before this one names it too
    new: int = 0
    clips_left_out: Counter[str] = field(default_factory=Counter)
    first_damaged: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        names = ("damaged", "filtered", "excluded", "planned", "repeated", "in_other_lists", "new")
        return {
            "list": self.source.shown,
            "format": self.source.layout.kind,
            "name": self.source.name,
            "rows": self.source.num_rows,
            **{name: getattr(self, name) for name in names},
            "clips_left_out": dict(self.clips_left_out),
            "first_damaged": self.first_damaged,
        }


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Gathered:
    """Lists, read one after the other and sorted out at the end. Its files last as long as it does."""

    def __init__(self) -> None:
        memory_mb = min(MAX_MEMORY_MB, _machine_bytes() // 4 // 1_000_000)
        self.folder = tempfile.TemporaryDirectory(prefix="autorecap-plan-")
        self.sql = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{memory_mb}MB",
                "temp_directory": self.folder.name,
                "preserve_insertion_order": "false",
                "python_enable_replacements": "false",
            },
        )
        self.sql.execute(
            "create table mentions (id varchar, list utinyint, place bigint);"
            "create table clips (id varchar, list utinyint, place bigint, start_ms bigint, end_ms bigint, "
            "caption varchar, clap_score double, original_caption varchar, tags varchar[]);"
            "create table excluded (id varchar); create table planned (id varchar)"
        )
        self.sql.execute("set enable_progress_bar = false")
        self.tallies: list[Tally] = []
        self.has_clips = False

    def close(self) -> None:
        self.sql.close()
        self.folder.cleanup()

    # --- reading

    def add(
        self,
        source: VideoList,
        *,
        times: bool = False,
        thresholds: Thresholds | None = None,
        progress: Callable[[VideoList], None] = lambda source: None,
    ) -> None:
        """Read a list to its end. Raises SourceError."""
        if len(self.tallies) == MAX_LISTS:
            raise ForeseenError(f"more than {MAX_LISTS} lists: join some of one format (cat), or plan in several steps")
        tally = Tally(source)
        number = len(self.tallies)
        self.tallies.append(tally)
        with Path(self.folder.name, f"damaged-{number}.jsonl").open("w", encoding="utf-8") as file:
            for part in source.read(times=times, thresholds=thresholds):
                self._insert("mentions", part.videos, number)
                if part.clips is not None and len(part.clips):
                    self.has_clips = True
                    self._insert("clips", part.clips, number)
                self._note(tally, part, file.write)
                progress(source)
        tally.damaged, tally.filtered = source.num_damaged, source.num_filtered
        tally.clips_left_out.update(source.clips_left_out)

    def exclude(self, source: VideoList) -> int:
        """Leave out the videos that a list names; returns how many rows named one."""
        before = self._count("select count(*) from excluded")
        for part in source.read():
            self._insert_ids("excluded", part.videos["id"])
        return self._count("select count(*) from excluded") - before

    def compare(self, store: Store, state: State) -> None:
        """Leave out the videos that a plan holds. Of a large plan only those matter that a small list names."""
        is_small = self._count("select count(*) from mentions") <= _SMALL_LIST_ROWS
        for table in planned_ids(store, state.names("plan")):
            self._insert_ids("planned", table["video_id"], "semi join mentions using (id)" if is_small else "")

    def _insert(self, table: str, rows: pa.Table, number: int) -> None:
        self.sql.register("rows_read", rows)
        columns = ", ".join(name for name in rows.schema.names if name not in ("id", "place"))
        rest = f", {columns}" if columns else ""
        self.sql.execute(f"insert into {table} select id, {number}, place{rest} from rows_read")  # noqa: S608
        self.sql.unregister("rows_read")

    def _insert_ids(self, table: str, ids: pa.ChunkedArray, which: str = "") -> None:
        self.sql.register("rows_read", pa.table({"id": ids}))
        self.sql.execute(f"insert into {table} select id from rows_read {which}")  # noqa: S608
        self.sql.unregister("rows_read")

    @staticmethod
    def _note(tally: Tally, part: Mentions, write: Callable[[str], Any]) -> None:
        for row in part.damaged:
            if len(tally.first_damaged) < 3:
                tally.first_damaged.append(f"line {row.line}: {row.what}" + (f": {row.text}" if row.text else ""))
            write(json.dumps({"line": row.line, "what": row.what, "text": row.text}) + "\n")

    # --- sorting out

    def sort_out(self) -> None:
        """Find what is new, and what became of every row."""
        fresh = "mentions"
        for column in ("excluded", "planned"):
            if not self._count(f"select count(*) from {column}"):  # noqa: S608
                continue
            for number, count in self.sql.execute(
                f"select list, count(*) from {fresh} semi join {column} using (id) group by list"  # noqa: S608
            ).fetchall():
                setattr(self.tallies[number], column, count)
            fresh += f" anti join {column} using (id)"
        self.sql.execute(
            f"create table videos as select id, min((list::bigint << {_PLACE_BITS}) | place) as place, "  # noqa: S608
            f"bit_or(1::hugeint << list::int) as lists from {fresh} group by id"
        )
        first = dict(
            self.sql.execute(
                f"select place >> {_PLACE_BITS} as list, count(*) from videos group by all"  # noqa: S608
            ).fetchall()
        )
        for number, tally in enumerate(self.tallies):
            distinct = self._count(f"select count(*) from videos where (lists >> {number}) & 1 = 1")  # noqa: S608
            named = tally.source.num_rows - tally.damaged - tally.filtered - tally.excluded - tally.planned
            tally.new = first.get(number, 0)
            tally.repeated, tally.in_other_lists = named - distinct, distinct - tally.new

    @property
    def num_new(self) -> int:
        return sum(tally.new for tally in self.tallies)

    def num_clips(self) -> tuple[int, int, int]:
        """Return how many new videos bring clips, how many clips, and their milliseconds, repeated ones included."""
        if not self.has_clips:
            return 0, 0, 0
        (row,) = self.sql.execute(
            "select count(distinct id), count(*), coalesce(sum(end_ms - start_ms), 0) from clips semi join "
            "videos using (id)"
        ).fetchall()
        return int(row[0]), int(row[1]), int(row[2])

    def _count(self, query: str) -> int:
        return int(self.sql.execute(query).fetchall()[0][0])

    # --- rows of the plan

    def tables(self) -> Iterator[pa.Table]:
        """Yield the new videos as rows of a plan, in the order of the lists and of their rows."""
        clips = ClipStream(self._stream(_CLIPS_QUERY)) if self.has_clips else None
        for table in self._stream("select id, place, lists from videos order by place"):
            yield self._rows(table, clips)

    def _stream(self, query: str) -> Iterator[pa.Table]:
        with explained():
            for batch in self.sql.cursor().sql(query).to_arrow_reader(_BATCH_ROWS):
                yield pa.Table.from_batches([batch])

    def _rows(self, table: pa.Table, clips: "ClipStream | None") -> pa.Table:
        num = len(table)
        empty = pa.array([""], pa.string()).take(pa.array(np.zeros(num, np.int64)))
        listed = clips.of(table["place"].to_numpy()) if clips else None
        no_clips = pa.ListArray.from_arrays(
            pa.array(np.zeros(num + 1, np.int32)), pa.array([], PLAN_SCHEMA.field("clips").type.value_type)
        )
        columns = {
            "row": pa.nulls(num, pa.int64()),
            "video_id": table["id"],
            "original_name": empty,
            "source": self._sources(table["lists"]),
            "title": empty,
            "media": pc.binary_join_element_wise(pa.scalar(WATCH_URL), table["id"], ""),
            "given": pa.array(np.zeros(num, bool)) if listed is None else pc.greater(pc.list_value_length(listed), 0),
            "info": empty,
            "sidecars": pa.ListArray.from_arrays(pa.array(np.zeros(num + 1, np.int32)), pa.array([], pa.string())),
            "clips": no_clips if listed is None else listed,
        }
        unknown = {f.name: pa.nulls(num, f.type) for f in PLAN_SCHEMA if f.name not in columns}
        return pa.table([{**columns, **unknown}[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA)

    def _sources(self, masks: pa.ChunkedArray) -> pa.Array:
        """Return the names of the lists, joined by commas: few combinations, so each is put together once."""
        encoded = masks.combine_chunks().dictionary_encode()
        return pa.array([self._source(int(mask)) for mask in encoded.dictionary.to_pylist()], pa.string()).take(
            encoded.indices
        )

    def _source(self, mask: int) -> str:
        names = (tally.source.name for number, tally in enumerate(self.tallies) if mask >> number & 1)
        return ",".join(dict.fromkeys(names))

    # --- what was damaged

    def damaged_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the damaged rows of each list as JSON lines, in parts: name and content."""
        for number, tally in enumerate(self.tallies):
            with Path(self.folder.name, f"damaged-{number}.jsonl").open("rb") as file:
                part = 0
                while lines := b"".join(line for line, _ in zip(file, range(_DAMAGED_PER_FILE), strict=False)):
                    about = {"list": tally.source.shown, "damaged": tally.damaged}
                    yield f"damaged-{number:03d}-{part:04d}.jsonl", json.dumps(about).encode() + b"\n" + lines
                    part += 1


_CLIPS_QUERY = (
    "select v.place as video, c.start_ms, c.end_ms, c.caption, c.clap_score, c.original_caption, c.tags "
    "from clips c join videos v using (id) "
    "order by video, c.start_ms, c.end_ms, c.list, c.place"
)


def found(gathered: Gathered, state: State, started: float) -> Found:
    """Return what was gathered, for the plan and for people."""
    lines = []
    for tally in gathered.tallies:
        lines.append(_line(tally))
        lines += [f"  {row}" for row in tally.first_damaged]
        if tally.damaged > len(tally.first_damaged):
            lines.append(f"  ... and {tally.damaged - len(tally.first_damaged)} more damaged rows, see runs/")
    rows = sum(tally.source.num_rows for tally in gathered.tallies)
    seconds = time.monotonic() - started
    lines.append(f"{rows} rows in {seconds:.1f} s: {gathered.num_new} new videos")
    with_clips, clips, clip_ms = gathered.num_clips()
    report = {
        "kind": "lists",
        "lists": [tally.as_json() for tally in gathered.tallies],
        "rows": rows,
        "new": gathered.num_new,
        "new_with_clips": with_clips,
        "clips": clips,
        "clip_ms": clip_ms,
        "seconds": round(seconds, 1),
    }
    return Found(state, gathered.num_new, gathered.tables, lines, report, gathered.damaged_files, gathered.close)


def _line(tally: Tally) -> str:
    source = tally.source
    parts = [
        f"{count} {what}"
        for count, what in (
            (tally.new, "new"),
            (tally.repeated, "repeated"),
            (tally.in_other_lists, "in a list before it"),
            (tally.planned, "in the plan already"),
            (tally.excluded, "excluded"),
            (tally.filtered, "without a clip that reaches the thresholds"),
            (tally.damaged, "damaged"),
        )
        if count or what == "new"
    ]
    kind = "" if source.layout.kind == source.name else f" ({source.layout.kind})"
    name = printable(source.path.rpartition("/")[2], 60)
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(tally.clips_left_out.items()))
    return (
        f"{name}: {source.name}{kind}, {source.num_rows} rows: {', '.join(parts)}"
        + (f"; {source.num_clips} clips" if source.num_clips else "")
        + (f" (left out: {left_out})" if left_out else "")
    )
