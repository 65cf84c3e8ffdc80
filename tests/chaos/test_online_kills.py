"""Two thousand videos, one in twenty of which goes wrong in some way, and a driver that is killed meanwhile."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from autorecap.dataset.view import DatasetView
from tests.fakes.youtube import FakeVideo, running
from tests.fakes.youtube.videos import OF_THE_EGRESS
from tests.pipeline.build.test_online_builds import REASONS

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NUM_VIDEOS, ONE_IN = 2_000, 20
RATE, BURST = 120, 20
LATE_S = 1.0
"""By how much later than it was sent a request may reach the server: two stretches of time then seem nearer."""
SETTINGS = {
    "youtube.budget.requests_per_s": RATE,
    "youtube.budget.burst": BURST,
    "youtube.budget.recovery_answers": 10,  # the 429s here are those of single videos
    "youtube.budget.park_s": 1,
    "youtube.budget.max_park_s": 2,
    "youtube.request_timeout_s": 3,
    "youtube.in_flight": 256,  # tries that pause hold their block up
    "writer.videos_per_shard": 200,
    "pools.block_videos": 16,
}


def videos() -> dict[str, FakeVideo]:
    kinds = [name for name in REASONS if name]
    mishaps = {ONE_IN * number: kinds[number % len(kinds)] for number in range(NUM_VIDEOS // ONE_IN)}
    return {
        f"{number:05d}-video": FakeVideo(
            title=mishaps.get(number, ""),
            mishap=mishaps.get(number, ""),
            times=1 if mishaps.get(number) in OF_THE_EGRESS else None,  # each park ends a pass
        )
        for number in range(NUM_VIDEOS)
    }


def start(ids: Path, out: Path, url: str, address: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "autorecap", "build", "--lists", f"ids={ids}", "--out", str(out)]
    command += ["--until", "segments", "--address", address]
    for name, value in {**SETTINGS, "youtube.base_url": url}.items():
        command += ["--set", f"{name}={value}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def most_in_a_window(times: list[float], window_s: float) -> int:
    first = most = 0
    for last, at in enumerate(times):
        while at - times[first] > window_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_every_video_ends_with_its_reason_whoever_is_killed_and_the_budget_holds(ray_address, tmp_path):
    """What must hold: the ledger has each video once, with its own reason; the server saw no more than the budget."""
    expected = videos()
    ids, out = tmp_path / "ids.txt", tmp_path / "out"
    ids.write_text("\n".join(expected) + "\n")
    with running(expected, latency_s=0.05) as fake:
        driver = start(ids, out, fake.url, ray_address)
        while len(list(out.glob("ledger/*.parquet"))) < 2:
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.1)
        driver.kill()
        driver.wait()
        time.sleep(3)  # its workers end: the budget of the next one knows nothing of theirs
        num_before = len(fake.requests)
        driver = start(ids, out, fake.url, ray_address)
        said, _ = driver.communicate(timeout=500)
        assert driver.returncode == 0, said
        runs = [[seen.at for seen in part] for part in (fake.requests[:num_before], fake.requests[num_before:])]
    rows = DatasetView(str(out)).rows("select video_id, status, reason from videos")
    assert Counter(row["video_id"] for row in rows) == Counter(expected.keys())
    reasons = {row["video_id"]: row["reason"] for row in rows}
    assert reasons == {name: REASONS[video.mishap] for name, video in expected.items()}
    for times in runs:
        for window_s in (0.5, 2.0, 10.0):
            assert most_in_a_window(sorted(times), window_s) <= BURST + RATE * (window_s + LATE_S)
    assert len(runs[1]) / (runs[1][-1] - runs[1][0]) <= RATE * 1.02
