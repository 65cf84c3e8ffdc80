"""Datasets of kind `segments`: what a build has found when it stops before any audio is fetched (AutoReCap-XL-Raw).

    segments/<id>.parquet    a row per video that has gaps, its clips as a list of times

`autorecap build --until segments` writes one, on machines without GPUs and models; a later build takes it as its
`--videos` and goes on with the media.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from autorecap.dataset.log import File, State, describe, read_state
from autorecap.dataset.parquet import read_parquet
from autorecap.dataset.store import Store, is_store, open_store
from autorecap.pipeline.build.bundle_writer import Writer
from autorecap.pipeline.plan.plan import PLAN_SCHEMA, Found, plan_table, planned_ids
from autorecap.stages.records import Video

KIND = "segments"
FOLDER = "segments"
_ROWS_AT_ONCE = 200_000


class SegmentsWriter(Writer):
    """Writes the segments of one bundle in place of shards."""

    def _write_clips(self, videos: Sequence[Video]) -> tuple[list[File], int]:
        found = [video for video in videos if video.is_ok and video.clips]
        if not found:
            return [], 0
        num_clips = sum(len(video.clips) for video in found)
        counts = {"videos": len(found), "clips": num_clips}
        return [self.publish_table(FOLDER, plan_table(found), counts)], num_clips


@dataclass(frozen=True)
class SegmentsSource:
    """The videos of a dataset of segments, to be gone on with."""

    url: str

    def find(self, store: Store, state: State) -> Found:
        """See `autorecap.pipeline.plan.plan.Source`. Sees the dataset as it is committed now."""
        stored = open_store(self.url)
        names = read_state(stored).names(FOLDER)
        planned = pa.chunked_array(
            [chunk for table in planned_ids(store, state.names("plan")) for chunk in table["video_id"].chunks],
            pa.string(),
        ).combine_chunks()

        def tables() -> Iterator[pa.Table]:
            for table in _joined(read_parquet(stored, name).select(PLAN_SCHEMA.names) for name in names):
                yield table.filter(pc.invert(pc.is_in(table["video_id"], value_set=planned)))

        num_new = sum(len(table) for table in tables())
        line = f"{stored.url}: {num_new} videos with segments that are new to {store.url}"
        return Found(state, num_new, tables, [line], {"kind": KIND, "new": num_new})


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: each comparison with a plan hashes all of the plan."""
    several: list[pa.Table] = []
    for table in tables:
        several.append(table)
        if sum(map(len, several)) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(several)
            several = []
    if several:
        yield pa.concat_tables(several)


def is_segments(url: str) -> bool:
    """Whether a dataset of segments lies there. A folder of videos may be where no dataset can."""
    if not is_store(url):
        return False
    store = open_store(url)
    return store.exists("dataset.json") and describe(store)["kind"] == KIND
