"""A YouTube on loopback, to be asked by hand, until Ctrl-C. Nothing of it is real.

    python -m tests.fakes.youtube --videos 100 --mix 0.05 --latency 0.2

Then, in another shell, with the ids that it prints or writes:

    autorecap build --lists ids.txt --out ambient/ --set youtube.base_url=http://127.0.0.1:8010 \\
        --set youtube.budget.requests_per_s=100 --set youtube.budget.park_s=5
"""

import argparse
import collections
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from autorecap.stages.youtube.ids import ID
from tests.fakes.youtube.media import ITAGS, synthesise
from tests.fakes.youtube.server import FakeYouTube, faster_than, running
from tests.fakes.youtube.videos import MISHAPS, OF_THE_EGRESS, Cues, FakeVideo

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_EVERY_S = 5.0  # between two lines of figures
_CUE_MS = 3_000


def video_ids(count: int, seed: int = 0) -> list[str]:
    """Ids that look like YouTube's; the same ones for the same seed."""
    draw = random.Random(seed)
    return ["".join(draw.choices(_ALPHABET, k=11)) for _ in range(count)]


def mixture(ids: list[str], share: float, seconds: int, media: Mapping[str, Path]) -> dict[str, FakeVideo]:
    """Videos of which `share` has a mishap, every mishap as often as the others; in between, speech and gaps.

    A refusal because of the egress comes once: the next request passes.
    """
    names = sorted(MISHAPS)
    draw = random.Random(1)
    videos = {}
    for number, video_id in enumerate(ids):
        mishap = names[number % len(names)] if draw.random() < share else ""
        cues: Cues = [(start, _CUE_MS, f"words at {start} ms") for start in range(0, 1_000 * seconds - 15_000, 15_000)]
        videos[video_id] = FakeVideo(
            title=f"Video {number}",
            duration_ms=1_000 * seconds,
            auto={"en": cues},
            media=dict(media),
            mishap=mishap,
            times=1 if mishap in OF_THE_EGRESS else None,
        )
    return videos


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.youtube", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8010, help="of the first door (default: 8010)")
    parser.add_argument("--doors", type=int, default=1, help="more of them, to be named as proxies (youtube.egresses)")
    parser.add_argument("--videos", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seconds", type=int, default=60, help="length of each (default: 60)")
    parser.add_argument("--mix", type=float, default=0.0, help="share of videos with a mishap, 0 to 1 (default: 0)")
    parser.add_argument("--video", action="append", default=[], metavar="ID=MISHAP", help="one more, with a mishap")
    parser.add_argument("--itags", default="140,250", help="audio formats, of 140 249 250 251 (default: 140,250)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer (default: 0)")
    parser.add_argument("--limit", type=float, help="requests per second and door; beyond it, 429 (default: none)")
    parser.add_argument("--ids", type=Path, help="write the ids into this file, one a line")
    parser.add_argument("--media", type=Path, help="folder in which audio is made and kept (default: a temporary one)")
    parser.add_argument("--mishaps", action="store_true", help="list them and end")
    options = parser.parse_args()
    if options.mishaps:
        print("\n".join(f"{name:>16}  {meaning}" for name, meaning in MISHAPS.items()))
        return
    itags = [itag for itag in options.itags.split(",") if itag]
    more = dict(text.partition("=")[::2] for text in options.video)
    if unknown := [itag for itag in itags if itag not in ITAGS]:
        parser.error(f"--itags: {unknown[0]!r} is none of {', '.join(ITAGS)}")
    for video_id, mishap in more.items():
        if not ID.fullmatch(video_id) or mishap not in MISHAPS:
            parser.error(f"--video {video_id}={mishap}: an id of 11 characters and a mishap, see --mishaps")
    if not 0 <= options.mix <= 1:
        parser.error(f"--mix is {options.mix}: a share from 0 to 1")
    with tempfile.TemporaryDirectory() as folder:
        made_in = options.media or Path(folder)
        media = {itag: synthesise(made_in, itag, options.seconds) for itag in itags}
        ids = video_ids(options.videos)
        videos = mixture(ids, options.mix, options.seconds, media)
        for video_id, mishap in more.items():
            videos[video_id] = FakeVideo(duration_ms=1_000 * options.seconds, media=dict(media), mishap=mishap)
        try:
            if options.ids:
                options.ids.write_text("".join(f"{video_id}\n" for video_id in videos))
            with running(videos, num_doors=options.doors, port=options.port, latency_s=options.latency) as fake:
                if options.limit:
                    fake.refusal = faster_than(options.limit)
                _tell(fake, list(videos))
                _watch(fake)
        except (OSError, OverflowError) as error:  # a port that is taken, or none; a file that cannot be written
            parser.error(str(error))


def _tell(fake: FakeYouTube, ids: list[str]) -> None:
    print(f"stands in for https://www.youtube.com at {fake.url}", flush=True)
    for number in range(1, len(fake.doors)):
        print(f"proxy {number}: {fake.door(number)}")
    print(f"{len(ids)} videos, such as {' '.join(ids[:5])}", flush=True)


def _watch(fake: FakeYouTube) -> None:
    """A line of figures now and then, while there are requests. Ends with Ctrl-C."""
    told = 0
    try:
        while True:
            time.sleep(_EVERY_S)
            new = fake.requests[told:]
            told += len(new)
            if new:
                kinds = collections.Counter(seen.kind for seen in new)
                figures = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
                print(f"{len(new) / _EVERY_S:.1f} requests/s: {figures}", flush=True)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
