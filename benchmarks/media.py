"""What it costs to read the clips of a video: their spans alone, against decoding the whole file.

    python -m benchmarks.media [--minutes 10] [--rounds 3]

Both ways end with the same PCM in memory. Each round runs both, so that a machine whose speed drifts slows both.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autorecap.demo.corpus import encode
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.stages.media import Media, MediaConfig
from autorecap.stages.media_files.ffmpeg import decode
from autorecap.stages.records import Clip, Video

CONTAINERS = ("webm", "m4a", "ogg")
GAP_S = 10
SPANS_PER_10_MINUTES = (1, 6, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds = options.minutes * 60
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE_HZ))).astype(np.float32)
    print(f"{options.minutes:g} minutes, clips of {GAP_S} s; CPU-bound wall milliseconds, median of {options.rounds}")
    print(f"{'container':>10} {'clips':>6} {'spans':>9} {'whole file':>11} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for container in CONTAINERS:
            media = Path(folder, f"long.{container}")
            encode(noise, media)
            for per_10_minutes in SPANS_PER_10_MINUTES:
                count = max(1, round(per_10_minutes * options.minutes / 10))
                spans, whole = compare(media, seconds, count, options.rounds)
                print(f"{container:>10} {count:>6} {spans:>9.0f} {whole:>11.0f} {spans / whole:>6.2f}")


def compare(media: Path, seconds: float, count: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of reading `count` clips, and of decoding everything and slicing it."""
    starts = [round(1000 * seconds * (i + 0.5) / count) for i in range(count)]
    starts = [min(start, round(1000 * seconds) - 1000 * GAP_S) for start in starts]
    clips = tuple(Clip(start_ms=start, end_ms=start + 1000 * GAP_S) for start in starts)
    video = Video(row=0, video_id="long", media=str(media), clips=clips)
    config = MediaConfig()
    stage = Media(config)

    def read_spans() -> list[bytes]:
        return [clip.audio or b"" for clip in stage([video])[0].clips]

    def read_whole() -> list[bytes]:
        pcm, _ = decode(str(media), 0, round(1000 * seconds), config.sample_rate_hz, 600)
        per_ms = 2 * config.sample_rate_hz // 1000
        return [pcm[per_ms * clip.start_ms : per_ms * clip.end_ms] for clip in clips]

    assert [len(pcm) for pcm in read_spans()] == [len(pcm) for pcm in read_whole()]
    times = [(_milliseconds(read_spans), _milliseconds(read_whole)) for _ in range(rounds)]
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def _milliseconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
