"""Clips of a dataset directory: committed ones, found by the index, as they were at a commit.

Also proves dataset/snapshot.py, the dataset as some of its commits left it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorecap.dataset.log import Log
from autorecap.dataset.reading.clips import DataError, UnreadableClipError
from autorecap.dataset.sql import BadQuery
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, WriterConfig
from autorecap.stages.flac import Flac
from autorecap.stages.records import Clip, Verdict, Video
from tests.support.datasets import audio_of, open_clips


class Growing:
    """A dataset of one kept clip per video and commit."""

    def __init__(self, url: str) -> None:
        store = open_store(url)
        self.log = Log.begin(store, kind="clips", fingerprint="f", settings={})
        self.writer = BundleWriter(WriterConfig(), store)

    def add(self, row: int) -> None:
        pcm = np.full(32_000, 100 * row, "<i2").tobytes()
        about: dict[str, Any] = {
            "caption": f"Caption {row}",
            "video_caption": f"picture {row}",
            "verdict": Verdict.KEPT,
        }
        clip = Clip(start_ms=0, end_ms=1_000, audio=pcm, sample_rate_hz=32_000, num_samples=32_000, **about)
        proposal = self.writer(Flac()([Video(row=row, video_id=f"v{row}", title=f"Title {row}", clips=(clip,))]))
        self.log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[str, Growing]:
    url = str(tmp_path / "dataset")
    growing = Growing(url)
    for row in range(3):
        growing.add(row)
    return url, growing


def test_a_dataset_is_read_by_its_index_and_filtered_by_sql(dataset: tuple[str, Growing]) -> None:
    url, _ = dataset
    clips = open_clips(url)
    found = {clips[i].name: clips[i] for i in range(len(clips))}
    assert sorted(found) == ["v0_0_1000", "v1_0_1000", "v2_0_1000"]
    clip = found["v2_0_1000"]
    assert (clip.captions, clip.title, clip.video_caption) == (("Caption 2",), "Title 2", "picture 2")
    samples, rate = audio_of(clip, 10.0, 0.5)
    assert (samples.shape, rate) == ((1, 32_000), 32_000)
    assert np.all(samples == np.float32(200 / 32_768))
    some = open_clips(url, where="caption like '%1' and end_ms - start_ms >= 1000")
    assert [some[i].name for i in range(len(some))] == ["v1_0_1000"]
    with pytest.raises(DataError, match="has no clips where caption = 'nothing'"):
        open_clips(url, where="caption = 'nothing'")
    with pytest.raises(BadQuery, match="no_column"):
        open_clips(url, where="no_column = 1")


def test_a_dataset_that_has_grown_is_what_it_was_for_a_run_that_knows_its_commit(dataset: tuple[str, Growing]) -> None:
    url, growing = dataset
    before = open_clips(url).identity
    growing.add(3)
    assert open_clips(url).identity != before
    assert open_clips(url, seq=before["seq"]).identity == before


def test_a_clip_whose_shard_is_gone_is_named(dataset: tuple[str, Growing]) -> None:
    url, _ = dataset
    clips = open_clips(url)
    clip = clips[0]
    for shard in Path(url, "shards").glob("*.tar"):
        shard.unlink()
    with pytest.raises(UnreadableClipError, match=rf"^{clip.name}: FileNotFoundError"):
        clip.load(10.0, 0.0)
