"""The flow of videos over a cluster: the stages as four pools of workers, streamed by Ray Data.

    fetch -> media -> judge -> bundles of N videos -> write        (what each pool does: pipeline/build/pools.py)
    fetch -> bundles of N videos -> write                          (a dataset of segments)

`preserve_order` makes a shard the next N unfinished rows of the plan, whoever was fastest.
"""

import gc
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions

from autorecap.base.errors import FINISHED_WITH_FAILURES, ForeseenError
from autorecap.cluster.start import check_room
from autorecap.dataset.publish import WriteFailed
from autorecap.dataset.store import Store
from autorecap.pipeline.build.bundle_writer import BundleWriter, Proposal
from autorecap.pipeline.build.config import BuildConfig, PoolConfig
from autorecap.pipeline.build.pools import POOLS, blocks_at_once, stages_of
from autorecap.pipeline.build.segments_writer import SegmentsWriter
from autorecap.stages.records import from_table, to_table
from autorecap.stages.scores import resolved
from autorecap.stages.stage import SickWorker, StageRunner
from autorecap.stages.youtube.budget import Budget

_MAX_TASK_RETRIES = 4  # Ray Data's own number is without end: videos that kill their worker would hang the build


class WorkersDied(ForeseenError):
    """Workers die again and again over the same videos."""

    exit_code = FINISHED_WITH_FAILURES


class Counts:
    """Counts videos per pool while they are on their way. An actor: workers add, the driver reads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.last_note = "nothing"

    def add(self, pool: str, videos: int) -> None:
        self.counts[pool] += videos

    def note(self, text: str) -> None:
        """Keep the last words of a worker."""
        self.last_note = text

    def read_note(self) -> str:
        return self.last_note

    def read(self) -> dict[str, int]:
        return dict(self.counts)


class StageWorker:
    """A worker of one pool: its stages, built once, called for every block."""

    def __init__(self, pool: str, config: BuildConfig, counts: Any, budget: Budget | None) -> None:
        self.pool = pool
        self.counts = counts
        self.run = StageRunner(stages_of(pool, config, budget))
        gc.freeze()  # models and libraries stay: looking through them at every collection costs transcripts a tenth

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            videos = self.run(from_table(table))
        except SickWorker as error:  # let a new process try this block
            ray.get(self.counts.note.remote(str(error)))
            os._exit(1)
        self.counts.add.remote(self.pool, len(videos))
        return to_table(videos)


class WriteWorker:
    """Writes one bundle. A full disk is an answer, not a crash: Ray would try it again and again."""

    def __init__(self, config: BuildConfig, store: Store, writer: type[BundleWriter]) -> None:
        self.writer = writer(config.writer, store)

    def __call__(self, table: pa.Table) -> pa.Table:
        try:
            return pa.table({"proposal": [self.writer(from_table(table)).to_json()], "error": [""]})
        except WriteFailed as error:
            return pa.table({"proposal": [""], "error": [str(error)]})


class RayFlow:
    """Runs passes on the cluster that this process is connected to."""

    libraries: tuple[str, ...] = ("ray",)

    def __init__(
        self, config: BuildConfig, store: Store, budget: Budget | None = None, *, until_segments: bool = False
    ) -> None:
        """`budget`: the requests to YouTube that all workers share; None: each worker has a budget of its own."""
        check_room(config.pools.used(until_segments=until_segments), ray.cluster_resources())
        self.config = config if until_segments else replace(config, scores=resolved(config.scores, config.captions))
        self.store, self.budget = store, budget
        self.pools = POOLS[:1] if until_segments else POOLS
        self.writer = SegmentsWriter if until_segments else BundleWriter
        self._counts: Any = ray.remote(num_cpus=0)(Counts).remote()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = -1  # a pass may wait long for its slowest video, within its limits

    def run(self, rows: Sequence[pa.Table]) -> Iterator[Proposal]:
        """Run one pass: rows of the plan go in, proposals to the driver come out, in order. Raises WriteFailed."""
        size = self.config.pools.block_videos
        blocks = [table.slice(first, size) for table in rows for first in range(0, len(table), size)]
        videos: ray.data.Dataset = ray.data.from_arrow(blocks)
        for pool in self.pools:
            arguments = {"pool": pool, "config": self.config, "counts": self._counts, "budget": self.budget}
            calls_at_once = blocks_at_once(pool, self.config)
            videos = self._map(videos, StageWorker, arguments, getattr(self.config.pools, pool), calls_at_once)
        bundles = videos.repartition(target_num_rows_per_block=self.config.writer.videos_per_shard, strict=True)
        arguments = {"config": self.config, "store": self.store, "writer": self.writer}
        try:
            for row in self._map(bundles, WriteWorker, arguments, self.config.pools.write).iter_rows():
                if row["error"]:
                    raise WriteFailed(row["error"])
                yield Proposal.from_json(row["proposal"])
        except ray.exceptions.RayActorError as error:
            last_words = ray.get(self._counts.read_note.remote())
            raise WorkersDied(
                f"a worker died {_MAX_TASK_RETRIES + 1} times over the same videos, most often for want of memory: "
                f"try a smaller pools.block_videos. Last words of a worker: {last_words}. "
                f"Ray says: {error}"
            ) from error

    def counts(self) -> dict[str, int]:
        """Return how many videos have left each pool so far."""
        counts: dict[str, int] = ray.get(self._counts.read.remote(), timeout=5)
        return counts

    def _map(
        self,
        videos: ray.data.Dataset,
        worker: type,
        arguments: dict[str, Any],
        pool: PoolConfig,
        calls_at_once: int = 1,
    ) -> ray.data.Dataset:
        # A worker is called for whole blocks; where it has a GPU, Ray Data refuses to go without a number of rows.
        size = self.config.pools.block_videos if pool.gpus else None
        with warnings.catch_warnings():  # Ray will drop `max_task_retries` here, and has no other name for it yet
            warnings.simplefilter("ignore", DeprecationWarning)
            return videos.map_batches(
                worker,
                fn_constructor_kwargs=arguments,
                batch_size=size,
                batch_format="pyarrow",
                zero_copy_batch=True,
                max_task_retries=_MAX_TASK_RETRIES,
                num_cpus=pool.cpus,
                num_gpus=pool.gpus or None,
                compute=ray.data.ActorPoolStrategy(
                    min_size=pool.min_workers,
                    max_size=pool.max_workers,
                    max_concurrent_calls_per_actor=calls_at_once,
                ),
            )
