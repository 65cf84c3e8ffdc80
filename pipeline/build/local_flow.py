"""A pass without Ray: the same stages and the same writer in one process, for tests of the driver."""

from collections.abc import Iterator

import pyarrow as pa

from autorecap.dataset.store import Store
from autorecap.pipeline.build.bundle_writer import Proposal, Writer
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.build.pools import POOLS, stages_of
from autorecap.stages.records import Video, from_table, to_table
from autorecap.stages.stage import Stage, run_stages


class PlainFlow:
    def __init__(
        self,
        config: BuildConfig,
        store: Store,
        stages: list[Stage] | None = None,
        *,
        block: int | None = None,
        writer: type[Writer] = Writer,
    ) -> None:
        """`block`: so many videos run through the stages together; default: those of one shard."""
        self.stages = [stage for pool in POOLS for stage in stages_of(pool, config)] if stages is None else stages
        self.size = config.writer.videos_per_shard
        self.block = block or self.size
        self.writer = writer(config.writer, store)
        self.seen: list[str] = []

    def run(self, rows: list[pa.Table]) -> Iterator[Proposal]:
        videos = [video for table in rows for video in from_table(table)]
        for first in range(0, len(videos), self.size):
            bundle: list[Video] = []
            for start in range(first, min(first + self.size, len(videos)), self.block):
                bundle += run_stages(self.stages, videos[start : min(start + self.block, first + self.size)])
            bundle = from_table(to_table(bundle))  # as between the pools of the graph
            self.seen += [video.video_id for video in bundle]
            yield self.writer(bundle)
