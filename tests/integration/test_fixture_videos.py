"""Videos mixed from real recordings, with the truth beside them."""

import json

import pytest

from autorecap.dataset.view import DatasetView
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.build.pools import stages_of
from autorecap.stages.sources import read_folder
from autorecap.stages.stage import run_stages
from tests.support.places import SHARED


@pytest.fixture(scope="module")
def judged():
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED}, which holds recordings, is not there")
    videos = read_folder(str(SHARED / "data" / "videos")).videos
    stages = [stage for pool in ("fetch", "media") for stage in stages_of(pool, BuildConfig())]
    truth = {entry["video_id"]: entry for entry in json.loads((SHARED / "data" / "videos-truth.json").read_text())}
    return [(video, truth[video.video_id]) for video in run_stages(stages, videos)]


def test_statuses_and_gaps_are_the_true_ones(judged):
    for video, truth in judged:
        if truth["expected_status"] == "discard_no_transcript":
            assert (video.status, video.reason) == ("rejected", "no_transcript")
            continue
        assert video.status == truth["expected_status"]
        gaps: list[list[int]] = []
        for clip in video.clips:
            if gaps and gaps[-1][1] == clip.start_ms:
                gaps[-1][1] = clip.end_ms
            else:
                gaps.append([clip.start_ms, clip.end_ms])
        expected = [[1000 * start, 1000 * end] for start, end in truth["expected_gaps"]]
        assert len(gaps) == len(expected)
        for gap, wanted in zip(gaps, expected, strict=True):
            assert gap == pytest.approx(wanted, abs=1000 * truth["tolerance"])


def test_clips_have_exactly_the_samples_that_their_times_say(judged):
    for video, _ in judged:
        for clip in video.clips:
            assert len(clip.audio) == 2 * clip.num_samples == 2 * 32 * clip.duration_ms


@pytest.mark.ray
@pytest.mark.slow
def test_the_folder_builds_as_a_dataset(shared, build, tmp_path):
    done = build(shared / "data" / "videos", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = DatasetView(str(tmp_path / "out")).rows("select video_id, status, num_gaps from videos order by video_id")
    assert [(row["status"], row["num_gaps"]) for row in rows] == [("ok", 2), ("ok", 2), ("rejected", 0)]
