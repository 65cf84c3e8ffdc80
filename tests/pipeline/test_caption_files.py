"""Files of any length in windows: each sample once, batches over files, and what came before damage."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autorecap.models.autocap import SIZES
from autorecap.pipeline.caption_files import Unread, caption_files, windows
from autorecap.stages.captions import CaptionsConfig
from autorecap.stages.media_files.ffmpeg import MediaError
from autorecap.stages.records import Video
from tests.support.sound_files import make


class Recorder:
    """Takes what the captions stage takes, and notes it."""

    def __init__(self, batch_clips: int) -> None:
        self.config = CaptionsConfig(batch_clips=batch_clips)
        self.model = SimpleNamespace(config=SIZES["demo"])
        self.shortest_ms = 100
        self.batches: list[list[Video]] = []

    def __call__(self, videos):
        self.batches.append(videos)
        return [
            replace(video, clips=tuple(replace(clip, caption=video.title) for clip in video.clips)) for video in videos
        ]


def test_batches_span_files_hold_no_more_than_asked_and_carry_the_title(tmp_path):
    files = [str(make(tmp_path / "a.wav", seconds=32)), str(make(tmp_path / "b.wav", seconds=5)), "none.wav"]
    told: list[tuple[float, str]] = []
    recorder: Any = Recorder(batch_clips=3)
    found = list(caption_files(files, recorder, "A harbour", lambda *at: told.append(at)))
    assert [[(video.media, len(video.clips)) for video in batch] for batch in recorder.batches] == [
        [(files[0], 3)],
        [(files[0], 1), (files[1], 1)],
    ]
    assert [answer.caption for answer in found[:-1]] == ["A harbour"] * 5
    assert found[-1] == Unread(file="none.wav", error="No such file or directory")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 3 and shares[0] == pytest.approx(10 / 32, abs=0.01)


def cut(*lengths: int, shortest: int = 10) -> list[tuple[int, int]]:
    pieces = [bytes(2 * length) for length in lengths]
    return [(first, len(pcm) // 2) for first, pcm in windows(pieces, shortest)]


def test_a_short_rest_shares_with_the_window_before_it():
    assert cut(100, 100) == [(0, 100), (100, 100)]
    assert cut(100, 100, 11) == [(0, 100), (100, 100), (200, 11)]
    assert cut(100, 100, 10) == [(0, 100), (100, 55), (155, 55)]
    assert cut(100, 1) == [(0, 50), (50, 51)]
    assert cut(3) == [(0, 3)]
    assert cut() == []


def test_windows_hold_every_sample_once():
    rng = np.random.default_rng(0)
    for last in (0, 1, 2, 9, 10, 11, 99):
        audio = rng.integers(-9, 9, 300 + last, dtype=np.int16).tobytes()
        found = list(windows([audio[i : i + 200] for i in range(0, len(audio), 200)], 10))
        assert b"".join(pcm for _, pcm in found) == audio
        assert [first for first, _ in found] == [sum(len(p) // 2 for _, p in found[:i]) for i in range(len(found))]


def test_what_came_before_the_damage_is_given_before_the_error():
    def broken():
        yield bytes(200)
        yield bytes(200)
        raise MediaError("cut")

    found = []
    with pytest.raises(MediaError):
        for window in windows(broken(), 10):
            found.append(window)
    assert [first for first, _ in found] == [0, 100]
