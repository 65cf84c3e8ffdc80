"""The plan: which videos a dataset is made of, and their row numbers. Appended, never changed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.dataset.log import File, Log, State
from pipeline.dataset.parquet import parquet_bytes, read_parquet
from pipeline.dataset.rows import RowSet
from pipeline.dataset.store import NameTaken, Store
from stages.records import CLIP_TYPE, VIDEO_SCHEMA, Video, to_table

PLAN_CLIP_TYPE = pa.struct(
    [CLIP_TYPE.field(name) for name in ("start_ms", "end_ms", "caption", "clap_score", "original_caption", "tags")]
)
PLAN_SCHEMA = pa.schema(
    [
        *(
            VIDEO_SCHEMA.field(name)
            for name in ("row", "video_id", "original_name", "source", "title", "media", "given", "info", "sidecars")
        ),
        ("clips", pa.list_(PLAN_CLIP_TYPE)),  # those that the source brings; most rows have none
    ]
)
_ROWS_PER_FILE = 1_000_000


def new_videos(store: Store, state: State, videos: Sequence[Video]) -> tuple[list[Video], list[Video]]:
    """Those of `videos` whose id the plan does not hold yet; and those whose id it holds for another media file."""
    ids = pa.array([video.video_id for video in videos], pa.string())
    planned: dict[str, str] = {}
    for name in state.names("plan"):  # one file at a time: a plan can be larger than memory
        table = read_parquet(store, name, columns=["video_id", "media"])
        here = table.filter(pc.is_in(table["video_id"], value_set=ids))
        planned.update(zip(here["video_id"].to_pylist(), here["media"].to_pylist(), strict=True))
    new = [video for video in videos if video.video_id not in planned]
    other = [video for video in videos if planned.get(video.video_id, video.media) != video.media]
    return new, other


def plan_table(videos: Sequence[Video]) -> pa.Table:
    """The videos as rows of a plan. Of their clips it holds what a source can say."""
    table = to_table(replace(video, clips=()) for video in videos)
    names = PLAN_CLIP_TYPE.names
    clips = pa.array(
        [[{name: getattr(clip, name) for name in names} for clip in video.clips] for video in videos],
        PLAN_SCHEMA.field("clips").type,
    )
    return table.set_column(table.schema.get_field_index("clips"), "clips", clips).select(PLAN_SCHEMA.names)


def append_plan(log: Log, videos: Sequence[Video]) -> None:
    """Give the videos the next row numbers and commit them."""
    for first in range(0, len(videos), _ROWS_PER_FILE):
        row = log.state.num_rows
        chunk = [replace(video, row=row + i) for i, video in enumerate(videos[first : first + _ROWS_PER_FILE])]
        data = parquet_bytes(plan_table(chunk))
        digest = hashlib.sha256(data).hexdigest()
        # The digest in the name: what a driver that died has left under the same rows is then another file.
        name = f"plan/{row:012d}-{len(chunk)}-{digest[:8]}.parquet"
        try:
            log.store.put_new(name, data)
        except NameTaken:
            pass
        log.commit(add=[File(name=name, sha256=digest, bytes=len(data), counts={"rows": len(chunk)})])


def read_rows(store: Store, state: State, rows: RowSet) -> Iterator[pa.Table]:
    """The plan's rows with these numbers, in order, one table per plan file, with their `attempt`."""
    first = 0
    for name in state.names("plan"):
        end = first + state.files[name].counts["rows"]
        here = list(rows - RowSet.of([(0, first), (end, state.num_rows)]))
        if here:
            table = _with_all_columns(read_parquet(store, name)).take([row - first for row in here])
            attempts = [state.retry[row].attempt if row in state.retry else 0 for row in here]
            yield table.append_column("attempt", pa.array(attempts, pa.int32()))
        first = end


def _with_all_columns(table: pa.Table) -> pa.Table:
    """A plan of an older version has fewer columns; all tables of a pass have the same."""
    missing = pa.table({f.name: pa.nulls(len(table), f.type) for f in PLAN_SCHEMA if f.name not in table.schema.names})
    for name in missing.schema.names:
        table = table.append_column(missing.schema.field(name), missing[name])
    return table.select(PLAN_SCHEMA.names)
