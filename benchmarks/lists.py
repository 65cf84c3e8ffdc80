"""A list of a million rows into a plan, against csv.reader and a set, in one run: rows a second and peak memory.

    python -m benchmarks.lists [--rows 1000000] [--sides read,plan,...] [--card benchmarks/results/lists.txt]

The list is made here, in AudioSet's layout: 5 % of its rows repeat a video, 1 % are damaged. Each side runs in its own
process, so that its peak memory is its own; times include the start of Python, which counts for a million rows and
not for the ten million of the card.
"""

import argparse
import csv
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow

from benchmarks import processor

REPEATED, DAMAGED = 0.05, 0.01
_CHUNK = 1_000_000
_SIDES = {
    "baseline": "csv.reader, regex, set; nothing written",
    "read": "reading: ids",
    "times": "reading: ids, clip times, labels",
    "plan": "into a plan: read, sorted out, written",
}
_CHARACTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", np.uint8)
_TAILS = (
    b', 30.000, 40.000, "/m/068hy,/m/07q6cd_,/m/0bt9lr,/m/0jbk"\n',
    b', 0.000, 10.000, "/m/01b_21"\n',
)


def make_list(path: Path, rows: int) -> None:
    """The list, the same for the same number of rows. Not timed."""
    rng = np.random.default_rng(0)
    repeated = _CHARACTERS[rng.integers(0, 64, (10_000, 11))]
    with path.open("wb") as file:
        file.write(b"# Segments csv\n# num_ytids\n# YTID, start_seconds, end_seconds, positive_labels\n")
        for first in range(0, rows, _CHUNK):
            num = min(_CHUNK, rows - first)
            ids = _CHARACTERS[rng.integers(0, 64, (num, 11))]
            again = rng.random(num) < REPEATED
            ids[again] = repeated[rng.integers(0, len(repeated), int(again.sum()))]
            broken = rng.random(num) < DAMAGED
            ids[broken, 3] = ord("?")
            for part, tail in zip(np.array_split(ids, 20), _TAILS * 10, strict=True):
                ends = np.broadcast_to(np.frombuffer(tail, np.uint8), (len(part), len(tail)))
                file.write(np.concatenate([part, ends], axis=1).tobytes())


def plan(path: str, out: str) -> int:
    """Ours: read, validated, sorted out, written as the plan of a dataset."""
    from autorecap.pipeline.plan.plan import plan_from
    from autorecap.pipeline.plan.sources import ListSource

    return plan_from(ListSource([path]), out).num_new


def read(path: str) -> int:
    """Ours, reading alone: ids validated, damaged rows named."""
    from autorecap.stages.sources.lists import open_list

    return sum(len(part.videos) for part in open_list(path).read())


def read_with_times(path: str) -> int:
    """Ours, reading with clip times and labels."""
    from autorecap.stages.sources.lists import open_list

    return sum(len(part.videos) for part in open_list(path).read(times=True))


def baseline(path: str) -> int:
    """A csv.reader, a regular expression and a set: in memory, nothing written."""
    is_id = re.compile(r"[A-Za-z0-9_-]{11}").fullmatch
    seen: set[str] = set()
    with Path(path).open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file, skipinitialspace=True):
            if row and not row[0].startswith("#") and is_id(row[0]):
                seen.add(row[0])
    return len(seen)


def measured(side: str, path: Path, out: Path) -> tuple[int, float, float, float]:
    """Result, seconds, CPU seconds and peak MB of one side in its own process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.lists", "--side", side, "--list", str(path), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    result = int(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{side} ended with {status}")
    return result, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--sides", default=",".join(_SIDES), help="which of them to run")
    arguments.add_argument("--card", type=Path, help="a file to append what is printed to")
    arguments.add_argument("--side", help=argparse.SUPPRESS)
    arguments.add_argument("--list", help=argparse.SUPPRESS)
    arguments.add_argument("--out", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.side:
        sides = {"read": read, "times": read_with_times, "baseline": baseline}
        print(plan(options.list, options.out) if options.side == "plan" else sides[options.side](options.list))
        return
    folder = Path(tempfile.mkdtemp(prefix="autorecap-lists-"))
    try:
        lines = list(_card(options.rows, options.sides.split(","), folder))
    finally:
        shutil.rmtree(folder)
    if options.card:
        with options.card.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


def _card(rows: int, sides: list[str], folder: Path) -> Iterator[str]:
    def say(line: str) -> str:
        print(line, flush=True)
        return line

    yield say(f"$ python -m benchmarks.lists --rows {rows}")
    yield say(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, "
        f"duckdb {duckdb.__version__}, pyarrow {pyarrow.__version__}"
    )
    path = folder / "list.csv"
    make_list(path, rows)
    yield say(f"{rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB, {REPEATED:.0%} repeated, {DAMAGED:.0%} damaged")
    yield say(f"{'':42} {'seconds':>8} {'CPU s':>7} {'rows/s':>10} {'rows/CPU s':>11} {'peak MB':>8} {'videos':>12}")
    results = {}
    for side in sides:
        found, seconds, cpu, peak = results[side] = measured(side, path, folder / "out")
        speeds = f"{seconds:8.1f} {cpu:7.1f} {rows / seconds:10,.0f} {rows / cpu:11,.0f}"
        yield say(f"{_SIDES[side]:42} {speeds} {peak:8,.0f} {found:12,}")
    if len(results) == len(_SIDES):
        assert results["plan"][0] == results["baseline"][0], "both sides must find the same videos"
        yield say(
            f"in CPU time: reading {results['baseline'][2] / results['read'][2]:.1f}x as fast as the baseline; the "
            f"whole way into a plan {results['plan'][2] / results['baseline'][2]:.1f}x its time"
        )
    if "plan" not in results:
        return
    size = sum(file.stat().st_size for file in (folder / "out" / "plan").iterdir())
    yield say(f"the plan: {size / 1e6:.0f} MB for {results['plan'][0]:,} videos")


if __name__ == "__main__":
    main()
