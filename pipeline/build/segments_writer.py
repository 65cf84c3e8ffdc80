"""The writer of a build that stops before any audio is fetched (`autorecap build --until segments`).

    segments/<id>.parquet    a row per video that has gaps, its clips as a list of times

It needs neither GPUs nor models; a later build takes what it leaves as its `--videos`, see `SegmentsSource`. The
released AutoReCap-XL-Raw is such a dataset.
"""

from collections.abc import Sequence

from autorecap.dataset.log import SEGMENTS, File
from autorecap.dataset.publish import publish_table
from autorecap.pipeline.build.bundle_writer import BundleWriter
from autorecap.pipeline.plan.plan import plan_table
from autorecap.stages.records import Video


class SegmentsWriter(BundleWriter):
    """Writes the segments of one bundle in place of shards."""

    def _write_clips(self, videos: Sequence[Video]) -> tuple[list[File], int]:
        segmented = [video for video in videos if video.is_ok and video.clips]
        if not segmented:
            return [], 0
        num_clips = sum(len(video.clips) for video in segmented)
        counts = {"videos": len(segmented), "clips": num_clips}
        return [publish_table(self.store, SEGMENTS, plan_table(segmented), counts)], num_clips
