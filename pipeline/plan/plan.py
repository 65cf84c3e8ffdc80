"""The plan: which videos a dataset is made of, and their row numbers. Appended, never changed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from autorecap.dataset.log import CLIPS, File, Log, State, state_to_extend
from autorecap.dataset.parquet import parquet_bytes, read_parquet
from autorecap.dataset.publish import put_content
from autorecap.dataset.row_set import RowSet
from autorecap.dataset.store import Store, open_store
from autorecap.stages.records import CLIP_TYPE, VIDEO_SCHEMA, Video, to_table

PLAN_CLIP_TYPE = pa.struct(
    [
        CLIP_TYPE.field(name)
        for name in ("start_ms", "end_ms", "caption", "video_caption", "clap_score", "original_caption", "tags")
    ]
)
SEGMENTED = (
    "description",
    "duration_ms",
    "transcript_kind",
    "transcript_language",
    "num_cues",
    "num_gaps",
    "gap_ms",
    "num_clips",
)
"""Columns that a video has once it is segmented; null in rows that come from elsewhere."""
PLAN_SCHEMA = pa.schema(
    [
        *(
            VIDEO_SCHEMA.field(name)
            for name in ("row", "video_id", "original_name", "source", "title", "media", "given", "info", "sidecars")
        ),
        ("clips", pa.list_(PLAN_CLIP_TYPE)),  # those that the source brings; most rows have none
        *(VIDEO_SCHEMA.field(name) for name in SEGMENTED),
    ]
)
# A file of the plan ends at whichever comes first. Files are read whole, by the driver and by estimates.
_ROWS_PER_FILE = 1_000_000
_BYTES_PER_FILE = 256_000_000  # in memory, before compression


@dataclass(frozen=True)
class Found:
    """What a source holds, beside the plan of a dataset as it was at that moment (`state`)."""

    state: State
    num_new: int  # rows that the plan does not hold
    tables: Callable[[], Iterator[pa.Table]]  # those rows, in an order that is always the same; columns of PLAN_SCHEMA
    lines: Sequence[str] = ()  # what was found, for people: printable
    report: dict[str, Any] = field(default_factory=dict)  # the same for JSON
    notes: Callable[[], Iterable[tuple[str, bytes]]] = lambda: ()  # files for `runs/`, such as damaged rows: for people
    close: Callable[[], None] = lambda: None  # what was found may lie on disk; nothing can be read from it afterwards


class Source(Protocol):
    """Something to plan from: a folder, lists of videos, sets that bring their clips."""

    def find(self, store: Store, state: State) -> Found:
        """Read the source and compare it with the plan. Raises SourceError where it cannot be read at all."""
        ...


def planned_ids(store: Store, names: Iterable[str], columns: Sequence[str] = ("video_id",)) -> Iterator[pa.Table]:
    """Read columns of the plan, one file at a time: a plan can be larger than memory. `names`: the files."""
    for name in names:
        yield read_parquet(store, name, columns=columns)


def new_videos(store: Store, state: State, videos: Sequence[Video]) -> tuple[list[Video], list[Video]]:
    """Return the videos whose id the plan does not hold yet, and those whose id it holds for another media file."""
    ids = pa.array([video.video_id for video in videos], pa.string())
    planned: dict[str, str] = {}
    for table in planned_ids(store, state.names("plan"), ["video_id", "media"]):
        here = table.filter(pc.is_in(table["video_id"], value_set=ids))
        planned.update(zip(here["video_id"].to_pylist(), here["media"].to_pylist(), strict=True))
    new = [video for video in videos if video.video_id not in planned]
    other = [video for video in videos if planned.get(video.video_id, video.media) != video.media]
    return new, other


def plan_table(videos: Sequence[Video]) -> pa.Table:
    """Return the videos as rows of a plan. Of their clips it holds what a source can say."""
    table = to_table(replace(video, clips=()) for video in videos)
    names = PLAN_CLIP_TYPE.names
    clips = pa.array(
        [[{name: getattr(clip, name) for name in names} for clip in video.clips] for video in videos],
        PLAN_SCHEMA.field("clips").type,
    )
    return table.set_column(table.schema.get_field_index("clips"), "clips", clips).select(PLAN_SCHEMA.names)


def append_found(log: Log, found: Found, committed: Callable[[int], None] = lambda rows: None) -> int:
    """Give what was found the next row numbers, commit it and close it; returns how many rows that were.

    What another driver has planned since is left out. `committed` is told the number of rows after every commit.
    """
    prefix = f"runs/plan-{log.state.epoch:04d}"
    if found.num_new:
        log.store.put(f"{prefix}-found.json", (json.dumps(found.report, indent=1) + "\n").encode())
    for name, data in found.notes():
        log.store.put(f"{prefix}-{name}", data)
    seen = set(found.state.names("plan"))
    since = [name for name in log.state.names("plan") if name not in seen]
    other_ids = [table["video_id"] for table in planned_ids(log.store, since)]
    others = pa.chunked_array([chunk for ids in other_ids for chunk in ids.chunks], pa.string())
    total = 0
    for table in _in_files(found.tables()):
        if len(others):
            table = table.filter(pc.invert(pc.is_in(table["video_id"], value_set=others.combine_chunks())))
        if len(table):
            _append(log, table)
            total += len(table)
            committed(total)
    found.close()
    return total


def plan_from(
    source: Source, out: str, *, kind: str = CLIPS, committed: Callable[[int], None] = lambda rows: None
) -> Found:
    """Put what a source holds into the plan of the dataset at `out`, which is made, of this kind, if there is none.

    The settings of a dataset stay what they are: a plan does not depend on them. Raises ForeseenError, SourceError.
    """
    store = open_store(out)
    state = state_to_extend(store, kind)
    found = source.find(store, state)
    log = Log.begin(store, kind=kind, fingerprint=state.fingerprint, settings=state.settings)
    append_found(log, found, committed)
    return found


def _in_files(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in tables that make files of a good size."""
    waiting: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        for first in range(0, len(table), _ROWS_PER_FILE):
            part = table.slice(first, _ROWS_PER_FILE)
            if waiting and (rows + len(part) > _ROWS_PER_FILE or size + part.nbytes > _BYTES_PER_FILE):
                yield pa.concat_tables(waiting)
                waiting, rows, size = [], 0, 0
            waiting.append(part)
            rows, size = rows + len(part), size + part.nbytes
    if waiting:
        yield pa.concat_tables(waiting)


def _append(log: Log, table: pa.Table) -> None:
    """Commit the rows as the next ones of the plan."""
    row = log.state.num_rows
    numbers = pa.array(range(row, row + len(table)), pa.int64())
    table = table.set_column(table.schema.get_field_index("row"), PLAN_SCHEMA.field("row"), numbers)
    data = parquet_bytes(table.cast(PLAN_SCHEMA))
    digest = hashlib.sha256(data).hexdigest()
    # The digest in the name: what a driver that died has left under the same rows is then another file.
    name = f"plan/{row:012d}-{len(table)}-{digest[:8]}.parquet"
    put_content(log.store, name, data)
    log.commit(add=[File(name=name, sha256=digest, bytes=len(data), counts={"rows": len(table)})])


def read_rows(
    store: Store, state: State, rows: RowSet, refusals: Mapping[int, int] = MappingProxyType({})
) -> Iterator[pa.Table]:
    """Read the plan's rows with these numbers, in order, a table per plan file, with their `attempt` and `refusals`."""
    for name, first, here in files_of(state, rows):
        table = _with_all_columns(read_parquet(store, name)).take([row - first for row in here])
        attempts = [state.retry[row].attempt if row in state.retry else 0 for row in here]
        for column_name, counts in (("attempt", attempts), ("refusals", [refusals.get(row, 0) for row in here])):
            column = VIDEO_SCHEMA.field(column_name)
            table = table.append_column(column, pa.array(counts, column.type))
        yield table


def files_of(state: State, rows: RowSet) -> Iterator[tuple[str, int, RowSet]]:
    """Yield the plan files that hold some of these rows: the name, the number of its first row, and which it holds."""
    first = 0
    for name in state.names("plan"):
        end = first + state.files[name].counts["rows"]
        if here := rows - RowSet.of([(0, first), (end, state.num_rows)]):
            yield name, first, here
        first = end


def _with_all_columns(table: pa.Table) -> pa.Table:
    """Add the columns that a plan of an older version lacks: all tables of a pass have the same."""
    missing = pa.table({f.name: pa.nulls(len(table), f.type) for f in PLAN_SCHEMA if f.name not in table.schema.names})
    for name in missing.schema.names:
        table = table.append_column(missing.schema.field(name), missing[name])
    return table.select(PLAN_SCHEMA.names)
