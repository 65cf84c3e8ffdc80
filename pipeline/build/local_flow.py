"""The flow of videos in one process: the stages of all pools and the writer, one after the other, without a cluster.

It publishes the same bytes as a flow over a cluster. On few cores it is faster, for
nothing is copied from process to process, and a debugger stops where the code is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import pyarrow as pa

from autorecap.dataset.store import Store
from autorecap.pipeline.build.bundle_writer import BundleWriter, Proposal
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.build.pools import POOLS, blocks_at_once, stages_of
from autorecap.pipeline.build.segments_writer import SegmentsWriter
from autorecap.stages.records import Video, from_table, to_table
from autorecap.stages.stage import Stage, StageRunner
from autorecap.stages.youtube.budget import Budget


class LocalFlow:
    """Runs passes in this process. Its stages are built once, with their models."""

    libraries: tuple[str, ...] = ()

    def __init__(
        self,
        config: BuildConfig,
        store: Store,
        budget: Budget | None = None,
        *,
        until_segments: bool = False,
        stages: Mapping[str, Sequence[Stage]] | None = None,
    ) -> None:
        """`budget`: the requests to YouTube; None: a budget of this flow alone. `stages`: of each pool; None: its own.

        Raises what the stages raise when their settings or files are wrong.
        """
        budget = budget or config.youtube.local_budget()
        pools = POOLS[:1] if until_segments else POOLS
        self.config = config
        stages = {pool: stages_of(pool, config, budget) for pool in pools} if stages is None else stages
        self.pools = {pool: StageRunner(of_pool) for pool, of_pool in stages.items()}
        self.writer = (SegmentsWriter if until_segments else BundleWriter)(config.writer, store)
        self._counts: Counter[str] = Counter()

    def run(self, rows: Sequence[pa.Table]) -> Iterator[Proposal]:
        """Run one pass: rows of the plan go in, proposals to the driver come out, in order.

        Raises WriteFailed, and SickWorker where a stage that has worked before fails at every video of a block.
        """
        videos = _videos(rows, self.config.pools.block_videos)
        for pool in self.pools:
            videos = self._through(pool, videos)
        for bundle in _in_groups(videos, self.config.writer.videos_per_shard):
            yield self.writer(bundle)

    def counts(self) -> dict[str, int]:
        """Return how many videos have left each pool so far."""
        return dict(self._counts)

    def _through(self, pool: str, videos: Iterator[Video]) -> Iterator[Video]:
        """Yield the videos as they leave a pool, which takes as many at once as a worker of a cluster."""
        for group in _in_groups(videos, self.config.pools.block_videos * blocks_at_once(pool, self.config)):
            done = from_table(to_table(self.pools[pool](group)))  # what is no column of the record ends here
            self._counts[pool] += len(done)
            yield from done


def _videos(rows: Sequence[pa.Table], at_once: int) -> Iterator[Video]:
    for table in rows:
        for first in range(0, len(table), at_once):
            yield from from_table(table.slice(first, at_once))


def _in_groups(videos: Iterable[Video], size: int) -> Iterator[list[Video]]:
    waiting = iter(videos)
    while group := list(islice(waiting, size)):
        yield group
