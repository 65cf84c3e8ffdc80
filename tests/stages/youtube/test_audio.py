"""Clips of YouTube's audio: fetched by ranges of bytes, cut exactly, and what happens when that goes wrong."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.media import Media, MediaConfig
from autorecap.stages.media_files.ffmpeg import decode
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Clip, Video
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.youtube.audio import HEAD_BYTES, REQUEST_BYTES, YoutubeAudio, cost, joined
from autorecap.stages.youtube.budget import BudgetConfig
from autorecap.stages.youtube.client import Youtube
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.ids import watch_url
from autorecap.stages.youtube.session import YOUTUBE, may_be_asked
from tests.fakes.youtube import FakeVideo, FakeYouTube, running
from tests.fakes.youtube.media import source, synthesise

ID = "-aaaaaaaaa_"
RATE = 32_000
MINUTE_MS = 60_000
LENGTH_S = 180


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("media")


def youtube_of(fake: FakeYouTube, **settings) -> Youtube:
    fast = BudgetConfig(requests_per_s=10_000, burst=1_000)
    config = YoutubeConfig(**{"base_url": fake.url, "budget": fast, **settings})
    budget = config.local_budget()
    return Youtube(config, TranscriptsConfig(), RATE, budget, in_flight=2, sleep=lambda seconds: None)


def video_of(*spans: tuple[int, int]) -> Video:
    clips = tuple(Clip(start_ms=start, end_ms=end) for start, end in spans)
    return Video(row=0, video_id=ID, media=watch_url(ID), clips=clips)


def fetch(fake: FakeYouTube, *spans: tuple[int, int], **settings) -> YoutubeAudio:
    return youtube_of(fake, **settings).audio(video_of(*spans), spans, time.monotonic() + 60)


SHAPES = [("140", ()), ("250", ()), ("250", ("-cues_to_front", "0"))]
SPANS = {"start": (0, 10_000), "middle": (91_300, 101_300), "end": (LENGTH_S * 1_000 - 7_000, LENGTH_S * 1_000)}


@pytest.mark.parametrize(("itag", "more"), SHAPES)
@pytest.mark.parametrize("where", SPANS)
def test_a_clip_has_the_samples_of_the_whole_file_for_a_share_of_its_bytes(folder, itag, more, where):
    path = synthesise(folder, itag, LENGTH_S, *more)
    span = SPANS[where]
    with running({ID: FakeVideo(media={itag: path}, duration_ms=LENGTH_S * 1_000)}) as fake:
        with fetch(fake, span) as audio:
            assert audio.decode(*span, RATE, 60) == decode(str(path), *span, RATE, 60)
        sent = fake.media_bytes[ID]
        asked = len(fake.asked("media"))
    assert audio.bytes_read == sent and audio.bytes_saved == path.stat().st_size - sent
    assert sent < path.stat().st_size / 3
    assert asked == audio.num_requests <= 3
    assert not Path(audio.path).exists()


@pytest.mark.parametrize("itag", ["140", "250"])
def test_clips_far_apart_are_each_cut_exactly_from_one_file(folder, itag):
    path = synthesise(folder, itag, LENGTH_S)
    spans = [(3_000, 8_000), (61_234, 71_234), (150_001, 152_002)]
    with running({ID: FakeVideo(media={itag: path})}) as fake, fetch(fake, *spans) as audio:
        for span in spans:
            assert audio.decode(*span, RATE, 60) == decode(str(path), *span, RATE, 60)


@pytest.mark.parametrize("itag", ["140", "250"])
def test_all_is_fetched_at_once_where_spans_would_save_nothing(folder, itag):
    path = synthesise(folder, itag, LENGTH_S)
    spans = [(start, start + 10_000) for start in range(0, LENGTH_S * 1_000, 17_000)]
    with running({ID: FakeVideo(media={itag: path})}) as fake, fetch(fake, *spans) as audio:
        assert audio.decode(*spans[-1], RATE, 60) == decode(str(path), *spans[-1], RATE, 60)
    assert audio.num_requests == 2 and audio.bytes_saved < 1_000


def test_a_file_without_an_index_is_fetched_whole(folder):
    path = synthesise(folder, "140", 30, "-movflags", "faststart")
    with running({ID: FakeVideo(media={"140": path})}) as fake, fetch(fake, (20_000, 25_000)) as audio:
        assert audio.bytes_read >= path.stat().st_size
        assert audio.decode(20_000, 25_000, RATE, 60) == decode(str(path), 20_000, 25_000, RATE, 60)


def test_a_service_that_ignores_ranges_costs_the_whole_track_and_nothing_else(folder):
    path = synthesise(folder, "250", 30)
    with running({ID: FakeVideo(media={"250": path}, mishap="media_whole")}) as fake:
        with fetch(fake, (20_000, 25_000)) as audio:
            assert audio.decode(20_000, 25_000, RATE, 60) == decode(str(path), 20_000, 25_000, RATE, 60)
        assert len(fake.asked("media")) == 1


def lag_ms(clip: np.ndarray, truth: np.ndarray) -> float:
    """By how much the clip is late, by cross-correlation, to a sample."""
    size = 1 << (len(truth) + len(clip)).bit_length()
    product = np.fft.rfft(clip, size) * np.conj(np.fft.rfft(truth, size))
    lag = int(np.fft.irfft(product, size).argmax())
    return 1_000 * (lag - size if lag > size // 2 else lag) / RATE


def resampled(sound: np.ndarray, rate: int) -> np.ndarray:
    """At `RATE`, by Fourier's transform: exact, but for the edges."""
    length = len(sound) * RATE // rate
    spectrum = np.fft.rfft(sound)[: length // 2 + 1]
    return np.fft.irfft(spectrum, length)


@pytest.mark.slow
@pytest.mark.parametrize(("itag", "rate"), [("140", 44_100), ("250", 48_000)])
def test_clips_of_a_two_hour_file_lie_where_they_should_within_5_ms_for_a_twentieth_of_its_bytes(folder, itag, rate):
    hours_ms = 2 * 60 * MINUTE_MS
    path = synthesise(folder, itag, hours_ms // 1_000)
    for start_ms in (0, 1_500, 3_600_300, hours_ms - 10_000):
        span = start_ms, start_ms + 10_000
        with running({ID: FakeVideo(media={itag: path}, duration_ms=hours_ms)}) as fake:
            video = Media(MediaConfig(), youtube_of(fake))([video_of(span)])[0]
        (clip,) = video.clips
        assert clip.audio is not None and clip.num_samples == 10 * RATE
        samples = np.frombuffer(clip.audio, "<i2").astype(np.float64)
        assert abs(lag_ms(samples, resampled(source(*span, rate), rate))) < 5
        assert video.bytes_read < path.stat().st_size / 20, "title and captions included"


# --- what goes wrong


def test_an_address_that_has_expired_is_asked_for_once_more(folder):
    path = synthesise(folder, "250", 30)
    with running({ID: FakeVideo(media={"250": path}, mishap="expired", times=1)}) as fake:
        with fetch(fake, (0, 5_000)) as audio:
            assert audio.decode(0, 5_000, RATE, 60)[0]
        assert [seen.kind for seen in fake.requests] == ["player", "media", "player", "media"]


@pytest.mark.parametrize(
    ("mishap", "times", "reason"),
    [
        ("expired", None, Reason.PO_TOKEN_REQUIRED),
        ("media_reset", None, Reason.NETWORK),
        ("media_reset", 2, None),
        ("media_short", None, Reason.NETWORK),
        ("media_short", 2, None),
        ("media_elsewhere", None, Reason.BAD_ANSWER),
        ("no_audio", None, Reason.NO_AUDIO),
        ("private", None, Reason.PRIVATE),
        ("live", None, Reason.LIVE),
        ("bot", None, Reason.BOT_CHECK),
        ("error_500", None, Reason.NETWORK),
        ("error_500", 2, None),
    ],
)
def test_each_mishap_of_media_ends_with_its_reason(folder, mishap, times, reason):
    media = {} if mishap == "no_audio" else {"250": synthesise(folder, "250", 30)}
    with running({ID: FakeVideo(media=media, mishap=mishap, times=times)}) as fake:
        video = Media(MediaConfig(), youtube_of(fake))([video_of((0, 5_000))])[0]
    assert video.reason == (reason.code if reason else ""), video.detail
    assert all(not clip.audio for clip in video.clips) or reason is None


def test_too_many_requests_for_media_slow_the_egress_down_and_then_park_it(folder):
    path = synthesise(folder, "250", 30)
    with running({ID: FakeVideo(media={"250": path})}) as fake:
        fake.refusal = lambda seen: "429" if seen.kind == "media" else ""
        youtube = youtube_of(fake)
        video = Media(MediaConfig(), youtube)([video_of((0, 5_000))])[0]
        assert len(fake.asked("media")) == 2
    assert video.reason == "rate_limited" and video.not_before == youtube.egresses.budget.parked_until()


def test_a_video_that_takes_too_long_to_fetch_ends_as_a_timeout(folder):
    path = synthesise(folder, "250", 30)
    with running({ID: FakeVideo(media={"250": path})}, latency_s=0.7) as fake:
        video = Media(MediaConfig(timeout_s=1), youtube_of(fake))([video_of((20_000, 25_000))])[0]
    assert video.reason == "timeout" and "media.timeout_s" in video.detail


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("https://www.youtube.com/watch?v=x", YOUTUBE, True),
        ("https://rr3---sn-4g5e6nsz.googlevideo.com/videoplayback?expire=1", YOUTUBE, True),
        ("https://consent.youtube.com/m", YOUTUBE, True),
        ("https://www.google.com/sorry/index", YOUTUBE, True),
        ("http://rr3---sn-4g5e6nsz.googlevideo.com/videoplayback", YOUTUBE, False),
        ("https://googlevideo.com.evil.example/x", YOUTUBE, False),
        ("https://evilgooglevideo.com/x", YOUTUBE, False),
        ("https://user@evil.example/googlevideo.com", YOUTUBE, False),
        ("https://googlevideo.com@evil.example/", YOUTUBE, False),
        ("http://169.254.169.254/latest/meta-data", YOUTUBE, False),
        ("http://127.0.0.1:8010/videoplayback", YOUTUBE, False),
        ("http://127.0.0.1:8010/videoplayback", "http://127.0.0.1:8011", True),
        ("http://10.0.0.1/", "http://127.0.0.1:8011", False),
        ("file:///etc/passwd", YOUTUBE, False),
        ("concat:/etc/passwd|x", YOUTUBE, False),
        ("https://[::1]/", YOUTUBE, False),
        ("https://[", YOUTUBE, False),
        ("", YOUTUBE, False),
    ],
)
def test_nothing_but_youtube_is_asked_whatever_an_answer_says(url, base, expected):
    assert may_be_asked(url, base) is expected


# --- which bytes


@given(st.lists(st.integers(1, 3_000_000), min_size=2, max_size=30))
def test_ranges_are_joined_where_what_lies_between_is_worth_less_than_a_request(steps):
    edges = np.cumsum(steps).tolist()
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    out = joined(ranges)
    assert cost(out) <= cost(ranges)
    assert all(any(a <= first and end <= b for a, b in out) for first, end in ranges), "nothing is left out"
    assert all(later[0] - earlier[1] > REQUEST_BYTES for earlier, later in pairwise(out))


def test_the_head_is_worth_a_request():
    assert HEAD_BYTES <= REQUEST_BYTES
