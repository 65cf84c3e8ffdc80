"""Reading audio out of real containers with the real ffmpeg.

It proves stages/media_files/ffmpeg.py by the stages that use it, stages/probe.py among them.
"""

import os
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from autorecap.base.files import portable
from autorecap.demo.corpus import encode
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.stages.media import Media, MediaConfig
from autorecap.stages.media_files.ffmpeg import _run, decode, ffmpeg_exe, read_header
from autorecap.stages.probe import Probe, ProbeConfig
from autorecap.stages.reasons import Status
from autorecap.stages.records import Clip, Verdict, Video

RATE = 32_000


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """20 s in which every moment is unlike every other, so that a decoder's position can be seen."""
    return (0.3 * np.random.default_rng(1).standard_normal(20 * SAMPLE_RATE_HZ)).clip(-1, 1).astype(np.float32)


def lag_ms(samples: np.ndarray, whole: np.ndarray, start_ms: int) -> float:
    """Where in `whole` the samples stand, against where they should."""
    margin = RATE // 20
    first = start_ms * RATE // 1000 - margin
    window = whole[first : first + 2 * margin + len(samples)]
    size = 1 << (len(window) + len(samples)).bit_length()
    match = np.fft.irfft(np.fft.rfft(window, size) * np.conj(np.fft.rfft(samples, size)))
    return (int(match[: 2 * margin].argmax()) - margin) * 1000 / RATE


def probe(path: Path) -> Video:
    return Probe(ProbeConfig())([Video(row=0, video_id="v", media=str(path))])[0]


def read(path: Path, *spans: tuple[int, int], **settings) -> Video:
    clips = tuple(Clip(start_ms=start, end_ms=end) for start, end in spans)
    return Media(MediaConfig(**settings))([Video(row=0, video_id="v", media=str(path), clips=clips)])[0]


@pytest.mark.parametrize("name", ["a.webm", "a.mp4", "a.m4a", "a.ogg"])
def test_a_span_is_read_from_where_it_is_and_is_exactly_as_long(tmp_path, noise, name):
    encode(noise, tmp_path / name, picture=name == "a.mp4")
    header = read_header(str(tmp_path / name), 20)
    assert header.has_audio and header.duration_ms == pytest.approx(20_000, abs=20)
    video = read(tmp_path / name, (3_217, 8_217), (12_000, 13_001))
    for clip in video.clips:
        samples = np.frombuffer(clip.audio or b"", "<i2").astype(float)
        assert len(samples) == clip.num_samples == clip.duration_ms * 32
        assert abs(lag_ms(samples, noise.astype(float), clip.start_ms)) <= 2


def test_audio_that_begins_later_than_the_picture_keeps_its_clock(tmp_path, noise):
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
    command += ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=20", "-af", "asetpts=PTS+1.5/TB"]
    subprocess.run([*command, tmp_path / "late.mp4"], input=noise.tobytes(), check=True)
    pcm, _ = decode(str(tmp_path / "late.mp4"), 0, 6_000, RATE, 20)
    samples = np.frombuffer(pcm, "<i2").astype(float)
    assert np.abs(samples[: 45 * RATE // 32]).max() < 2_000
    assert abs(lag_ms(samples[2 * RATE :], noise.astype(float), 500)) <= 2


def test_clips_of_one_gap_are_cut_from_one_read_without_a_seam(tmp_path, noise):
    encode(noise, tmp_path / "a.ogg")
    parts = read(tmp_path / "a.ogg", (1_000, 6_000), (6_000, 9_500)).clips
    (whole,) = read(tmp_path / "a.ogg", (1_000, 9_500)).clips
    assert b"".join(part.audio or b"" for part in parts) == whole.audio


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *product(("a.m4a", "a.mp3", "a.ogg"), ("48000", "44100", "22050")),
        *product(("a.webm", "a.opus"), ("48000",)),
        *product(("a.mp4", "a.flac"), ("44100",)),
    ],
)
def test_reading_apart_and_together_gives_the_same_clips(tmp_path, noise, name, rate):
    # Without noise substitution, which AAC decoders make up anew in every read.
    codec = ["-c:a", "aac", "-aac_pns", "0"] if name in ("a.m4a", "a.mp4") else []
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-", *codec]
    subprocess.run([*command, "-ar", rate, tmp_path / name], input=noise.tobytes(), check=True)
    spans = [(203, 1_003), (1_017, 3_017), (5_003, 7_003), (12_345, 14_345)]
    together, apart = (read(tmp_path / name, *spans, join_reads_ms=ms).clips for ms in (60_000, 0))
    for one, other in zip(together, apart, strict=True):
        a, b = (np.frombuffer(clip.audio or b"", "<i2").astype(int) for clip in (one, other))
        assert np.abs(a - b).max() <= 2, one.start_ms


def test_a_clip_at_the_end_ends_with_the_audio_and_one_beyond_is_dropped(tmp_path, noise):
    encode(noise, tmp_path / "a.ogg")
    video = read(tmp_path / "a.ogg", (15_000, 25_000), (25_000, 35_000))
    assert video.status is Status.OK and "past the end" in video.detail
    last, beyond = video.clips
    assert abs(last.end_ms - 20_000) <= 2 and last.num_samples == last.duration_ms * 32
    assert beyond.verdict is Verdict.PAST_END and beyond.audio is None


def test_what_exceeds_the_limit_of_a_video_is_left_out_and_listed(tmp_path, noise):
    encode(noise, tmp_path / "a.ogg")
    clips = read(tmp_path / "a.ogg", (0, 5_000), (5_000, 10_000), (10_000, 15_000), max_clip_s_per_video=11).clips
    assert [clip.verdict for clip in clips] == [Verdict.PENDING, Verdict.PENDING, Verdict.LEFT_OUT]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("zero.webm", b"", "empty"),
        ("text.mp4", b"Dear diary, this is not a film.\n" * 50, "Invalid data"),
        ("noise.mp4", bytes(range(256)) * 40, "Invalid data"),
        ("list.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n", "Invalid data"),
        ("list.m4a", b"ffconcat version 1.0\nfile secret.wav\n", "Invalid"),
    ],
)
def test_what_is_no_media_file_is_undecodable_and_opens_nothing_else(tmp_path, name, content, word):
    encode(synthesise("rain", 2, np.random.default_rng(0)), tmp_path / "secret.ogg")
    (tmp_path / "secret.ogg").rename(tmp_path / "secret.wav")
    (tmp_path / name).write_bytes(content)
    video = probe(tmp_path / name)
    assert (video.status, video.reason) == (Status.FAILED, "undecodable")
    assert name in video.detail and word in video.detail


def test_a_video_without_audio_is_told_from_a_broken_one(tmp_path):
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=2"]
    subprocess.run([*command, tmp_path / "mute.mp4"], check=True)
    assert probe(tmp_path / "mute.mp4").reason == "no_audio"


def test_a_missing_file_is_tried_again_later(tmp_path):
    video = probe(tmp_path / "gone.webm")
    assert (video.status, video.reason) == (Status.RETRY, "media_missing")
    video = read(tmp_path / "gone.webm", (0, 5_000))
    assert (video.status, video.reason) == (Status.RETRY, "media_missing") and "gone.webm" in video.detail


@pytest.mark.parametrize("step", [probe, lambda path: read(path, (0, 5_000))])
def test_a_file_that_cannot_be_opened_is_tried_again_later(tmp_path, step):
    (tmp_path / "a.webm").symlink_to("a.webm")
    assert step(tmp_path / "a.webm").reason == "media_missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("step", [probe, lambda path: read(path, (0, 5_000))])
def test_a_file_that_may_not_be_read_is_tried_again_later(tmp_path, step):
    (tmp_path / "a.webm").write_bytes(b"x")
    (tmp_path / "a.webm").chmod(0)
    assert step(tmp_path / "a.webm").reason == "media_missing"


@pytest.mark.parametrize("step", [probe, lambda path: read(path, (0, 5_000)), lambda path: read(path, (9_000, 9_500))])
def test_a_file_that_vanishes_before_ffmpeg_opens_it_is_tried_again_later(tmp_path, monkeypatch, step):
    (tmp_path / "a.webm").write_bytes(b"x")

    def late(arguments, timeout_s):
        (tmp_path / "a.webm").unlink()
        return _run(arguments, timeout_s)

    monkeypatch.setattr("autorecap.stages.media_files.ffmpeg._run", late)
    assert step(tmp_path / "a.webm").reason == "media_missing"


def test_an_ffmpeg_that_cannot_be_started_is_not_the_fault_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a.webm").write_bytes(b"x")
    monkeypatch.setattr("autorecap.stages.media_files.ffmpeg.ffmpeg_exe", lambda: str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="cannot be started"):
        probe(tmp_path / "a.webm")


def test_a_half_file_is_truncated_and_writes_nothing(tmp_path, noise):
    encode(noise, tmp_path / "a.webm")
    data = (tmp_path / "a.webm").read_bytes()
    (tmp_path / "half.webm").write_bytes(data[: len(data) // 2])
    video = read(tmp_path / "half.webm", (2_000, 4_000), (15_000, 20_000))
    assert (video.status, video.reason) == (Status.FAILED, "truncated_media")
    assert all(clip.audio is None for clip in video.clips)


def test_ffmpeg_that_takes_too_long_is_ended_and_the_video_tried_again(tmp_path, noise, monkeypatch):
    slow = tmp_path / "ffmpeg"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    ffmpeg_exe.cache_clear()
    try:
        (tmp_path / "a.webm").write_bytes(b"x")
        video = read(tmp_path / "a.webm", (0, 5_000), timeout_s=1)
        assert (video.status, video.reason) == (Status.RETRY, "timeout")
    finally:
        ffmpeg_exe.cache_clear()


def test_a_name_like_an_option_or_a_protocol_is_only_a_name(tmp_path, noise):
    for name in ("-i.ogg", "concat:x|y.ogg", "a b;$(touch x).ogg"):
        encode(noise[:RATE], tmp_path / name)
        assert probe(tmp_path / name).duration_ms is not None, name
    assert not (tmp_path / "x").exists()


def test_a_name_that_is_not_utf8_is_read_like_any_other(tmp_path, noise):
    encode(noise, tmp_path / "a.webm")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.webm"))
    (tmp_path / "a.webm").rename(path)
    video = Video(row=0, video_id="v", media=portable(str(path)), clips=(Clip(start_ms=1_000, end_ms=3_000),))
    (done,) = Media(MediaConfig())(Probe(ProbeConfig())([video]))
    assert done.status is Status.OK and done.clips[0].num_samples == 64_000
