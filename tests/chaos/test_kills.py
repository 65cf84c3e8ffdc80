"""What must hold when things die: nothing committed is lost, nothing is done twice, the shards are the same bytes."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import encode
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.demo.transcripts import Line, srt
from tests.support.builds import shard_names, wait_for_commits

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SMALL = ("--set", "writer.videos_per_shard=3", "--set", "pools.block_videos=1")


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, list[str]]:
    return {}


@pytest.fixture
def expected(undisturbed, build, corpus, tmp_path_factory) -> list[str]:
    """The shards of a build that nobody disturbs."""
    if not undisturbed:
        out = tmp_path_factory.mktemp("undisturbed") / "out"
        done = build(corpus, out, *SMALL)
        assert done.returncode == 0, done.stderr
        undisturbed["shards"] = shard_names(out)
    return undisturbed["shards"]


@pytest.mark.parametrize("commits", [1, 3, 5])
def test_a_killed_build_goes_on_to_the_same_shards(expected, start_build, build, corpus, tmp_path, commits):
    """kill -9 right after the epoch was opened, after the first shards, and near the end."""
    out = tmp_path / "out"
    driver = start_build(corpus, out, *SMALL)
    wait_for_commits(out, commits, driver)
    driver.kill()
    driver.wait()
    before = len(list(out.glob("commits/*.json")))
    done = build(corpus, out, *SMALL)
    assert done.returncode == 0, done.stderr
    assert shard_names(out) == expected
    rows = DatasetView(str(out)).rows("select row from videos order by row")
    assert [row["row"] for row in rows] == list(range(18))
    assert before < len(list(out.glob("commits/*.json")))


def test_a_build_goes_on_when_its_workers_are_killed(expected, start_build, corpus, tmp_path, ray_address):
    """SIGKILL to every worker of the stages while one is busy: Ray starts others, and no video is lost or doubled."""
    out = tmp_path / "out"
    driver = start_build(corpus, out, *SMALL)
    while not any(name.endswith(".submit") for name in stage_workers(ray_address).values()):
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.02)
    workers = stage_workers(ray_address)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    _, stderr = driver.communicate(timeout=300)
    assert driver.returncode == 0, stderr
    assert shard_names(out) == expected


def stage_workers(address: str) -> dict[int, str]:
    """Pids and names of the stages' workers on the cluster at this address, and on no other. `.submit`: busy."""
    listing = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    processes = [line.split(maxsplit=2) for line in listing.splitlines()[1:]]
    gcs = re.compile(rf"--gcs-address=\S*:{address.rpartition(':')[2]}\b")
    raylets = {pid for pid, _, args in processes if "/raylet " in args and gcs.search(args)}
    name = "ray::MapWorker(MapBatches(StageWorker))"
    return {int(pid): args for pid, parent, args in processes if parent in raylets and args.startswith(name)}


def test_an_interrupted_build_says_so_and_goes_on(expected, start_build, build, corpus, tmp_path):
    out = tmp_path / "out"
    driver = start_build(corpus, out, *SMALL)
    wait_for_commits(out, 3, driver)
    driver.send_signal(signal.SIGTERM)
    _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 130 and "goes on from there" in stderr and "Traceback" not in stderr
    assert build(corpus, out, *SMALL).returncode == 0
    assert shard_names(out) == expected


def test_of_two_builds_at_once_the_later_wins_and_the_other_stops(expected, start_build, corpus, tmp_path):
    out = tmp_path / "out"
    first = start_build(corpus, out, *SMALL)
    wait_for_commits(out, 3, first)
    second = start_build(corpus, out, *SMALL)
    _, first_says = first.communicate(timeout=300)
    _, second_says = second.communicate(timeout=300)
    assert second.returncode == 0, second_says
    if first.returncode:  # it may have been done before the second began
        assert first.returncode == 3 and "another driver" in first_says
    assert shard_names(out) == expected


def test_a_disk_that_fills_up_ends_the_build_with_a_message_and_space_lets_it_go_on(build, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount one")
    videos = noisy_videos(tmp_path / "noise")
    try:
        (disk / "ballast").write_bytes(bytes(7_000_000))
        full = build(videos, disk / "out", *SMALL)
        assert full.returncode == 1, full.stderr
        assert "no space" in full.stderr and str(disk) in full.stderr and "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        done = build(videos, disk / "out", *SMALL)
        assert done.returncode == 0, done.stderr
        assert len(DatasetView(str(disk / "out")).rows("select row from videos")) == 9
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def noisy_videos(folder: Path) -> Path:
    """Nine videos of a minute that FLAC cannot make small: 3 MB of clips each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        encode((0.1 * rng.standard_normal(60 * SAMPLE_RATE_HZ)).astype(np.float32), folder / f"noise{i}.webm")
        (folder / f"noise{i}.en.srt").write_text(srt([Line(0, 3_000, "only the first words are spoken")]))
    return folder
