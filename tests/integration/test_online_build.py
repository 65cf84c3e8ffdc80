"""Lists to shards on real components: `autorecap plan` and `build` against a fake YouTube, and against files.

The videos are those of the demo whose names are ids; each file is both what yt-dlp would have left and what the fake
serves by ranges.
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from autorecap.base.settings_files import CONFIGS
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS
from autorecap.stages.media_files.ffmpeg import read_header
from tests.fakes.youtube import FakeVideo, FakeYouTube, running

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ITAGS = {"m4a": "140", "webm": "250"}
VIDEOS = [
    video
    for video in CORPUS
    if video.container in ITAGS and len(video.name) == 11 and " " not in video.name and video.transcript[:2] == "en"
    if not video.collapsed
]
TOLERANCE_MS = 5
FAST = {"youtube.budget.requests_per_s": 500, "youtube.budget.burst": 50}


def fake_of(corpus: Path) -> dict[str, FakeVideo]:
    return {
        video.name: FakeVideo(
            title=video.title,
            duration_ms=length_ms(corpus / f"{video.name}.{video.container}"),
            auto={"en": [(line.start_ms, line.end_ms - line.start_ms, line.text) for line in video.lines]},
            media={ITAGS[video.container]: corpus / f"{video.name}.{video.container}"},
        )
        for video in VIDEOS
    }


def length_ms(path: Path) -> int:
    """As the container states it; so does YouTube."""
    length = read_header(str(path), 60).duration_ms
    assert length is not None
    return length


def autorecap(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "autorecap", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def youtube(corpus):
    with running(fake_of(corpus)) as fake:
        yield fake


@pytest.fixture(scope="module")
def ids(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "ids.txt"
    names = [VIDEOS[0].name, f"https://youtu.be/{VIDEOS[1].name}?t=3", *(video.name for video in VIDEOS[2:])]
    path.write_text("\n".join([*names, "goneForEver"]) + "\n")
    return path


def told(fake: FakeYouTube, address: str) -> list[str]:
    settings = {**FAST, "youtube.base_url": fake.url}
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return ["--config", str(CONFIGS / "demo.yaml"), "--address", address, *overrides]


@pytest.fixture(scope="module")
def online(youtube, ids, ray_address, tmp_path_factory) -> Path:
    """The dataset of the list: planned, then built."""
    out = tmp_path_factory.mktemp("online") / "dataset"
    planned = autorecap("plan", f"ids={ids}", "--out", out)
    assert f"{len(VIDEOS) + 1} new" in planned.stdout + planned.stderr
    autorecap("build", "--out", out, *told(youtube, ray_address))
    return out


@pytest.fixture(scope="module")
def from_files(corpus, ray_address, tmp_path_factory) -> Path:
    """The dataset of the same videos as yt-dlp would have left them."""
    folder = tmp_path_factory.mktemp("videos")
    for video in VIDEOS:
        for path in corpus.glob(f"{video.name}.*"):
            (folder / path.name).symlink_to(path)
    out = tmp_path_factory.mktemp("files") / "dataset"
    settings = ["--config", CONFIGS / "demo.yaml", "--address", ray_address]
    autorecap("build", "--videos", folder, "--out", out, *settings)
    return out


def test_every_video_of_the_list_has_its_row(online):
    rows = DatasetView(str(online)).rows("select video_id, source, title, status, reason from videos")
    ended = {row["video_id"]: (row["status"], row["reason"]) for row in rows}
    assert ended == {**{video.name: ("ok", "") for video in VIDEOS}, "goneForEver": ("failed", "deleted")}
    assert {row["title"] for row in rows if row["status"] == "ok"} == {video.title for video in VIDEOS}
    assert {row["source"] for row in rows} == {"ids"}


def clips_of(dataset: Path) -> dict[str, str]:
    return {row["key"]: row["caption"] for row in DatasetView(str(dataset)).rows("select key, caption from clips")}


def test_a_list_gives_the_clips_and_captions_that_the_files_give(online, from_files):
    expected = clips_of(from_files)
    assert clips_of(online) == expected and len(expected) >= len(VIDEOS)


def test_the_samples_of_a_clip_lie_where_they_lie_in_the_file(online, from_files):
    views = [DatasetView(str(dataset)) for dataset in (online, from_files)]
    for key in clips_of(online):
        fetched, read = (soundfile.read(io.BytesIO(view.clip(key).flac))[0] for view in views)
        assert len(fetched) == len(read)
        assert abs(lag_ms(fetched, read)) <= TOLERANCE_MS, key
        assert np.abs(fetched - read).max() < 1e-3, key


def lag_ms(sound: np.ndarray, truth: np.ndarray) -> float:
    """By how much the sound is late, by cross-correlation."""
    size = 1 << (2 * len(truth)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(sound, size) * np.conj(np.fft.rfft(truth, size)))
    peak = int(correlation.argmax())
    return (peak if peak < size // 2 else peak - size) / 32


def test_segments_first_and_the_rest_later_give_the_same_clips(youtube, ids, online, ray_address, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    settings = told(youtube, ray_address)
    autorecap("build", "--lists", f"ids={ids}", "--out", raw, "--until", "segments", *settings)
    inspected = autorecap("inspect", raw).stdout
    assert "segments" in inspected and "Traceback" not in inspected
    asked = {kind: len(youtube.asked(kind)) for kind in ("watch", "timedtext")}
    autorecap("build", "--videos", raw, "--out", out, *settings)
    assert {kind: len(youtube.asked(kind)) for kind in asked} == asked, "transcripts are not fetched again"
    assert clips_of(out) == clips_of(online)


def test_another_run_without_a_list_has_nothing_to_do(youtube, online, ray_address):
    asked = len(youtube.requests)
    again = autorecap("build", "--out", online, *told(youtube, ray_address))
    assert "nothing to do" in again.stderr and len(youtube.requests) == asked
