"""Small datasets, written by the project's own writer, whose clips say by their sound which they are."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from autorecap.dataset.log import Log
from autorecap.dataset.reading.clips import Audio, Clips, Latent
from autorecap.dataset.reading.clips import Clip as StoredClip
from autorecap.dataset.reading.manifest import DataSource
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, WriterConfig
from autorecap.pipeline.plan.plan import Found, append_found, plan_table
from autorecap.stages.flac import Flac
from autorecap.stages.records import Clip, Verdict, Video


def append_plan(log: Log, videos: Sequence[Video]) -> None:
    """Give the videos the next row numbers and commit them."""
    tables = [plan_table(videos)] if videos else []
    append_found(log, Found(log.state, len(videos), lambda: iter(tables), [], {}))


def audio_of(clip: StoredClip, window_s: float, share: float) -> Audio:
    """Load a clip that is sound, and not a latent."""
    found = clip.load(window_s, share)
    assert not isinstance(found, Latent)
    return found


NUM_CLIPS = 23  # of `five_shards`


def five_shards(url: str) -> "Growing":
    """A dataset of `NUM_CLIPS` clips in five shards of unequal sizes."""
    growing = Growing(url)
    for rows in (range(0, 6), range(6, 7), range(7, 13), range(13, 20), range(20, NUM_CLIPS)):
        growing.add(rows, seconds=0.2)
    return growing


class Growing:
    """A dataset of one kept clip per video; each `add` is one shard and one commit."""

    def __init__(self, url: str, rate_hz: int = 32_000) -> None:
        self.url, self.rate_hz = url, rate_hz
        store = open_store(url)
        self.log = Log.begin(store, kind="clips", fingerprint="f", settings={})
        self.writer = BundleWriter(WriterConfig(), store)

    def add(self, rows: int | Iterable[int], seconds: float = 1.0) -> None:
        """Clips `v<row>_0_<ms>` of noise around the level row / 327.68."""
        rows = [rows] if isinstance(rows, int) else list(rows)
        videos = Flac()([self._video(row, seconds) for row in rows])
        proposal = self.writer(videos)
        self.log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)

    def damage(self, row: int) -> None:
        """Overwrite a stretch of a clip in its shard."""
        from autorecap.dataset.view import DatasetView

        found = DatasetView(self.url).rows("select * from clips where row = ?", row)[0]
        with Path(self.url, found["shard"]).open("r+b") as file:
            file.seek(found["offset"] + found["size"] // 2)
            file.write(bytes(found["size"] // 4))

    def _video(self, row: int, seconds: float) -> Video:
        count = round(seconds * self.rate_hz)
        pcm = 100 * row + np.random.default_rng(row).integers(-50, 50, count)
        clip = Clip(
            start_ms=0,
            end_ms=round(1000 * seconds),
            audio=pcm.astype("<i2").tobytes(),
            sample_rate_hz=self.rate_hz,
            num_samples=count,
            caption=f"Caption {row}",
            video_caption=f"picture {row}",
            verdict=Verdict.KEPT,
        )
        return Video(row=row, video_id=f"v{row}", title=f"Title {row}", clips=(clip,))


def open_clips(data: str | Path, where: str = "", seq: int | None = None) -> Clips:
    """The clips of one dataset or list, as they were after `seq` commits or are now."""
    return DataSource.parse(str(data)).open(where, seq)
