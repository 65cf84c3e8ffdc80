"""Plans from a dataset of segments: videos whose clips were found, and whose audio is not fetched yet.

Such a dataset is written by `autorecap build --until segments`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from autorecap.dataset.log import DESCRIPTION, SEGMENTS, State, describe
from autorecap.dataset.snapshot import Snapshot
from autorecap.dataset.store import Store, is_store, open_store
from autorecap.pipeline.plan.plan import PLAN_SCHEMA, Found, planned_ids

_ROWS_AT_ONCE = 200_000  # are compared with the plan together, since each comparison hashes the whole plan


@dataclass(frozen=True)
class SegmentsSource:
    """A dataset of segments, whose videos a build goes on with."""

    url: str

    def find(self, store: Store, state: State) -> Found:
        """Compare the segments that are committed now with the plan, as a `Source` does."""
        segments = Snapshot(self.url)
        names = segments.state.names(SEGMENTS)
        planned = pa.chunked_array(
            [chunk for table in planned_ids(store, state.names("plan")) for chunk in table["video_id"].chunks],
            pa.string(),
        ).combine_chunks()

        def tables() -> Iterator[pa.Table]:
            for table in _joined(segments.read_table(name, PLAN_SCHEMA.names) for name in names):
                yield table.filter(pc.invert(pc.is_in(table["video_id"], value_set=planned)))

        num_new = sum(len(table) for table in tables())
        line = f"{segments.store.url}: {num_new} videos with segments that are new to {store.url}"
        return Found(state, num_new, tables, [line], {"kind": SEGMENTS, "new": num_new})


def _joined(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in fewer tables: each comparison with a plan hashes all of the plan."""
    several: list[pa.Table] = []
    for table in tables:
        several.append(table)
        if sum(map(len, several)) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(several)
            several = []
    if several:
        yield pa.concat_tables(several)


def is_segments(url: str) -> bool:
    """Return whether a dataset of segments lies at a URL. A folder of videos may lie where no dataset can."""
    if not is_store(url):
        return False
    store = open_store(url)
    return store.exists(DESCRIPTION) and describe(store)["kind"] == SEGMENTS
