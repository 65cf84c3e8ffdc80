"""Flows for tests of the driver: without Ray, and with a memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from autorecap.dataset.store import Store
from autorecap.pipeline.build.bundle_writer import Proposal
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.stages.stage import Stage


class WatchedFlow(LocalFlow):
    """A LocalFlow that remembers which videos it was given: `seen`, in order, and as often as they came."""

    def __init__(
        self, config: BuildConfig, store: Store, stages: Sequence[Stage] | None = None, **options: Any
    ) -> None:
        """`stages`: those of the test, in place of all that a build has."""
        super().__init__(config, store, stages=None if stages is None else {"test": stages}, **options)
        self.seen: list[str] = []

    def run(self, rows: Sequence[pa.Table]) -> Iterator[Proposal]:
        self.seen += [video_id for table in rows for video_id in table["video_id"].to_pylist()]
        return super().run(rows)
