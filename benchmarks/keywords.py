"""The keyword filter against two simpler ones, in one run: captions a second, and what each gets right.

    python -m benchmarks.keywords [LABELLED.jsonl]

LABELLED has `caption`, `speech_or_music` and `ambiguous` in each line. Ambiguous captions are timed, not scored.
Without the file only speed is measured, over captions made here.
"""

import json
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from autorecap.stages.keyword_files.keyword_filter import KeywordFilter
from autorecap.stages.keyword_files.pattern import normalise
from benchmarks import processor

PAPER_WORDS = ("talking", "speaking", "singing")  # the ones that the paper names (A.3)
SPEECH = ("speak", "talk", "speech", "voice", "convers", "chat", "murmur", "whisper", "announc", "narrat")
MUSIC = (
    "sing",
    "song",
    "music",
    "tune",
    "melod",
    "instrument",
    "guitar",
    "piano",
    "drum",
    "flute",
    "violin",
    "trumpet",
    "rap",
    "radio",
)
MIN_SECONDS = 1.0
NUM_ROUNDS = 3  # the best counts: other load on the machine can only slow a round down

SUBJECTS = ("A man", "A woman", "Several birds", "An engine", "Rain", "A dog", "Water", "A crowd")
SOUNDS = ("speaks", "runs", "sing", "chatters", "falls on a roof", "plays music", "laughs", "is blowing loudly")


def caption_filters() -> dict[str, Callable[[str], bool]]:
    """Name to filter. `words` does what the compiled pattern does for its plain keywords, one pattern a word."""
    bundled = KeywordFilter()
    words = [re.compile(rf"\b{re.escape(word)}\b") for word in bundled.plain_keywords]
    return {
        "autorecap": lambda caption: bundled.match(caption) is not None,
        "one regex per word": lambda caption: (text := normalise(caption), any(w.search(text) for w in words))[1],
        "substrings": lambda caption: (text := caption.lower(), any(stem in text for stem in SPEECH + MUSIC))[1],
        "words of the paper": lambda caption: not set(PAPER_WORDS).isdisjoint(re.findall(r"\w+", caption.lower())),
    }


def captions_per_s(keep: Callable[[str], bool], captions: Sequence[str]) -> float:
    best = 0.0
    for _ in range(NUM_ROUNDS):
        num, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < MIN_SECONDS / NUM_ROUNDS:
            for caption in captions:
                keep(caption)
            num += len(captions)
        best = max(best, num / seconds)
    return best


def scores(drop: Callable[[str], bool], rows: Sequence[dict]) -> str:
    hits = [(row["speech_or_music"], drop(row["caption"])) for row in rows if not row["ambiguous"]]
    num_true = sum(truth for truth, _ in hits)
    num_found = sum(truth and dropped for truth, dropped in hits)
    num_dropped = sum(dropped for _, dropped in hits)
    ambient_dropped = (num_dropped - num_found) / max(1, len(hits) - num_true)
    return f"{num_found / max(1, num_true):9.3f} {num_found / max(1, num_dropped):10.3f} {ambient_dropped:16.3f}"


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path else []
    captions = [row["caption"] for row in rows] or [f"{s} {v} nearby" for s, v in product(SUBJECTS, SOUNDS)]
    started = time.perf_counter()
    KeywordFilter()
    print(f"{processor()}, Python {platform.python_version()}, one core")
    load_s = time.perf_counter() - started
    print(f"{len(captions)} captions from {path.name if path else 'this file'}; load {load_s:.2f} s")
    print(f"{'filter':20} {'captions/s':>10} {'ratio':>7}" + ("    recall  precision  ambient dropped" if rows else ""))
    speeds = {name: captions_per_s(drop, captions) for name, drop in caption_filters().items()}
    for name, drop in caption_filters().items():
        ratio = speeds[name] / speeds["one regex per word"]
        print(f"{name:20} {speeds[name]:10,.0f} {ratio:6.1f}x " + (scores(drop, rows) if rows else ""))


if __name__ == "__main__":
    main()
