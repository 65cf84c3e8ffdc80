"""Transcripts a second from a fake YouTube 200 ms away, and segments a minute, each against youtube-transcript-api.

    python -m benchmarks.transcripts [--videos 600] [--card benchmarks/results/transcripts.txt]

The fake runs in a process of its own, on the same machine, and answers every request after the latency: a watch page of
a megabyte, the player, captions of 300 cues with a time for every word. The libraries are the real ones. CPU time is
that of the process that asks. The segment stage alone: from the bytes of the captions to clips, in one thread.
"""

import argparse
import gc
import itertools
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from youtube_transcript_api import YouTubeTranscriptApi
from youtube_transcript_api._transcripts import _TranscriptParser

from autorecap.stages.records import Video
from autorecap.stages.segments import Segments, SegmentsConfig
from autorecap.stages.transcript_files import read_transcript
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcripts import Transcripts
from autorecap.stages.youtube.budget import BudgetConfig
from autorecap.stages.youtube.client import Youtube
from autorecap.stages.youtube.config import YTDLP, YoutubeConfig
from autorecap.stages.youtube.ids import watch_url
from benchmarks import processor
from tests.fakes.youtube import FakeVideo, running
from tests.fakes.youtube.pages import timed_text
from tests.fakes.youtube.videos import Cues

LATENCY_S = 0.2
NUM_CUES = 300
DURATION_MS = 830_000
BLOCK = 16  # videos, as pools.block_videos
TARGET_PER_S, TARGET_CPU_MS, TARGET_SEGMENTS_PER_MIN = 60, 10, 20_000
_WORDS = ("so", "now", "we", "are", "going", "to", "walk", "down", "here", "and", "look", "at", "what", "the", "river")


def cues() -> Cues:
    """A video of fourteen minutes: lines of eight words or so, a breath after each, four seconds after every tenth."""
    draw = random.Random(0)  # noqa: S311
    out, at = [], 0
    for number in range(NUM_CUES):
        text = " ".join(draw.choices(_WORDS, k=draw.randint(5, 10)))
        length = 280 * len(text.split())
        out.append((at, length, text))
        at += length + (4_000 if number % 10 == 9 else 300)
    return out


def serve() -> None:
    """The fake, until standard input ends. Every id is a video."""
    video = FakeVideo(auto={"en": cues()}, duration_ms=DURATION_MS)
    with running({}, latency_s=LATENCY_S) as fake:
        fake.unknown = lambda video_id: video
        print(fake.url, flush=True)
        sys.stdin.read()
        print(len(fake.requests), time.process_time(), flush=True)


class _Elsewhere(HTTPAdapter):
    """Sends what is meant for YouTube to the fake: all that the bare library needs."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        assert request.url is not None
        request.url = request.url.replace("https://www.youtube.com", self.base)
        return super().send(request, *args, **kwargs)  # type: ignore[arg-type]


def with_library(base: str, ids: Sequence[str], num_threads: int) -> int:
    """youtube-transcript-api by itself, its own parser included. Returns cues."""

    def client() -> YouTubeTranscriptApi:
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", _Elsewhere(base))
        return YouTubeTranscriptApi(http_client=session)

    def some(mine: Sequence[str]) -> int:
        api = client()
        return sum(len(api.fetch(video_id)) for video_id in mine)

    shares = [ids[first::num_threads] for first in range(num_threads)]
    with ThreadPoolExecutor(num_threads) as threads:
        return sum(threads.map(some, shares))


def with_stage(base: str, ids: Sequence[str], in_flight: int, **settings: object) -> int:
    """Our stage: parsed with the times of words, titled. Blocks of videos as in a build. Returns cues."""
    fast = BudgetConfig(requests_per_s=10_000, burst=1_000)
    config = YoutubeConfig(base_url=base, budget=fast, **settings)  # type: ignore[arg-type]
    rules = TranscriptsConfig()
    budget = config.local_budget()
    stage = Transcripts(rules, Youtube(config, rules, 32_000, budget, in_flight=in_flight))

    def block(mine: Sequence[str]) -> int:
        videos = stage([Video(row=0, video_id=video_id, media=watch_url(video_id)) for video_id in mine])
        assert all(video.is_ok for video in videos), next(video for video in videos if not video.is_ok)
        return sum(video.num_cues for video in videos)

    blocks = [ids[first : first + BLOCK] for first in range(0, len(ids), BLOCK)]
    with ThreadPoolExecutor(2 * in_flight // BLOCK) as workers:
        return sum(workers.map(block, blocks))


@dataclass(frozen=True)
class Asked:
    """What asking for some videos took."""

    name: str
    count: int
    seconds: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        each_ms = 1000 * self.cpu_s / self.count
        return f"  {self.name:<44} {self.count:>5}   {self.rate:>7.1f}/s   {each_ms:>6.2f} ms CPU each"


def asked(name: str, count: int, ask: Callable[[Sequence[str]], int], numbers: "itertools.count[int]") -> Asked:
    ids = [f"{next(numbers):011d}" for _ in range(count)]
    started, cpu = time.perf_counter(), time.process_time()
    found = ask(ids)
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    assert found == count * NUM_CUES, f"{name}: {found} cues of {count * NUM_CUES}"
    return Asked(name, count, took_s, cpu_s)


def requests_report(num_videos: int) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.transcripts", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdin and fake.stdout
        base = fake.stdout.readline().strip()
        numbers = itertools.count()
        few = max(8, num_videos // 60)
        with_stage(base, [f"{next(numbers):011d}" for _ in range(64)], 64)  # connections, imports
        one = asked("library, one after the other", few, lambda ids: with_library(base, ids, 1), numbers)
        library = asked("library, 64 threads", num_videos // 2, lambda ids: with_library(base, ids, 64), numbers)
        stages = [
            asked(f"stage, {each} in flight", num_videos, partial(with_stage, base, in_flight=each), numbers)
            for each in (32, 64, 128)
        ]
        more = [
            asked(
                "stage, 64 in flight, a watch page for each",
                num_videos // 2,
                partial(with_stage, base, in_flight=64, watch_page_s=0.0),
                numbers,
            ),
            asked(
                "stage by yt-dlp alone, 64 in flight",
                num_videos // 6,
                partial(with_stage, base, in_flight=64, routes=(YTDLP,)),
                numbers,
            ),
        ]
        fake.stdin.close()
        count, cpu_s = fake.stdout.readline().split()
    best = max(stages, key=lambda each: each.rate)
    return [
        *map(str, (one, library, *stages, *more)),
        f"  best of the stage against the library: {best.rate / one.rate:.0f} x one after the other, "
        f"{best.rate / library.rate:.2f} x 64 threads",
        f"  the fake: {1000 * float(cpu_s) / int(count):.2f} ms CPU per request, of {count} requests",
    ]


def per_minute(work: Callable[[], object], turns: int = 8, seconds: float = 0.5) -> float:
    """Calls a minute of CPU time, in this thread: in the best of some turns, for neighbours slow a core down too."""
    work()
    best = 0.0
    for _ in range(turns):
        count, started = 0, time.thread_time()
        while time.thread_time() - started < seconds:
            work()
            count += 1
        best = max(best, 60 * count / (time.thread_time() - started))
    return best


def segments_report() -> list[str]:
    found = cues()
    stage = Segments(SegmentsConfig())
    gc.freeze()  # as a worker does
    empty = Video(row=0, video_id="x", duration_ms=DURATION_MS)

    def ours(data: bytes) -> Callable[[], object]:
        def work() -> object:
            transcript = read_transcript(data, "captions")
            return stage([replace(empty, cues=transcript.cues, num_cues=len(transcript.cues))])

        return work

    srv1, _ = timed_text(found, "srv1", auto=True)
    parser = _TranscriptParser()
    text = srv1.decode()
    theirs = per_minute(lambda: parser.parse(text))
    lines = [f"  {'library: srv1 to snippets, no gaps':<44} {theirs:>9,.0f}/min and core"]
    for name, auto in (("json3", True), ("srv3", True), ("json3", False), ("srv1", False)):
        data, _ = timed_text(found, name, auto=auto)
        rate = per_minute(ours(data))
        kind = "every word timed" if auto else "times of lines"
        label = f"ours: {name}, {kind}, to clips"
        lines.append(f"  {label:<44} {rate:>9,.0f}/min and core   {rate / theirs:.2f} x")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=600, help="of the largest runs")
    parser.add_argument("--only", choices=("requests", "segments"))
    parser.add_argument("--card", type=Path, help="write the result there as well")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    lines = [
        f"$ python -m benchmarks.transcripts --videos {options.videos}",
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, "
        f"youtube-transcript-api {version('youtube-transcript-api')}, yt-dlp {version('yt-dlp')}, "
        f"requests {version('requests')}; load average {os.getloadavg()[0]:.1f} at the start",
        "",
    ]
    if options.only != "segments":
        lines += [
            f"Transcripts from a fake YouTube at {1000 * LATENCY_S:.0f} ms, which runs on the same cores "
            f"(targets: {TARGET_PER_S}/s, {TARGET_CPU_MS} ms CPU)",
            *requests_report(options.videos),
            "",
        ]
    if options.only != "requests":
        lines += [
            f"Segments of transcripts of {NUM_CUES} cues, parsing included, one thread, by CPU time "
            f"(target: {TARGET_SEGMENTS_PER_MIN:,}/min)",
            *segments_report(),
        ]
    report = "\n".join(lines)
    print(report)
    if options.card:
        options.card.write_text(report + "\n")


if __name__ == "__main__":
    main()
