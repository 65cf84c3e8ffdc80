"""A build as a job of a running cluster: `ray job submit` with a copy of the project as its working directory."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from autorecap.base.settings_files import CONFIGS
from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store
from autorecap.demo.corpus import CORPUS, synthesise_corpus
from tests.fakes.ray_head import free_port, ray_head
from tests.support.places import PROJECT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

VIDEOS = CORPUS[:6]
LONG = tuple(replace(video, name=f"{video.name[:-2]}{i:02d}") for i in range(5) for video in VIDEOS)
"""Enough that a job is far from its end when its first shard is there, however fast the machine."""
RAY = str(Path(sys.executable).with_name("ray"))
NOT_READY = "No available agent"  # what the dashboard answers until the node's agent has reported to it

Submit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """The URL that jobs are submitted to. Every port is the test's own: the defaults may be another Ray's."""
    port = free_port()
    options = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
    options += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # a job's `python` is the head's
        with ray_head(*options):
            yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    synthesise_corpus(folder, videos=VIDEOS)
    return folder


@pytest.fixture(scope="module")
def many_videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    synthesise_corpus(folder, videos=LONG)
    return folder


@pytest.fixture(scope="module")
def working_dir(tmp_path_factory) -> Path:
    """The project as a user would submit it, with a recipe that is nowhere else: one video per shard, slow captions."""
    folder = tmp_path_factory.mktemp("project")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, folder / name, follow_symlinks=False)
    shutil.copy(PROJECT / "build_autorecap_xl.py", folder)
    recipe = yaml.safe_load((CONFIGS / "demo.yaml").read_text())
    recipe["captions"]["num_beams"] = 12
    recipe["writer"]["videos_per_shard"] = recipe["pools"]["block_videos"] = 1
    (folder / "configs" / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def submit(dashboard, working_dir) -> Submit:
    """`ray job submit ... -- python build_autorecap_xl.py <arguments>`, to the job's end unless `--no-wait`."""

    def run(*arguments: object, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [RAY, "job", "submit", "--address", dashboard, "--working-dir", str(working_dir), *options]
        command += ["--", "python", "build_autorecap_xl.py", *map(str, arguments)]
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if NOT_READY not in done.stderr or time.monotonic() > deadline:
                return done

    return run


def output(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def events(out: Path) -> list[list[dict]]:
    """The events of every run, in order."""
    return [[json.loads(line) for line in run.open()] for run in sorted(out.glob("runs/*.jsonl"))]


def num_done(out: Path) -> int:
    return len(read_state(open_store(str(out))).done)


def test_a_job_builds_the_dataset_and_the_same_job_again_has_nothing_to_do(submit, videos, tmp_path):
    out = tmp_path / "a dataset"  # arguments reach the script as they were given
    arguments = ("--videos", videos, "--out", out, "--config", "configs/mine.yaml", "--set", "captions.num_beams=2")

    first = submit(*arguments)
    assert first.returncode == 0, output(first)
    assert num_done(out) == len(VIDEOS)
    (run,) = events(out)
    assert run[0]["config"]["captions"]["num_beams"] == 2  # from the command
    assert run[0]["config"]["writer"]["videos_per_shard"] == 1  # from the file that only the working directory has
    assert run[-1]["exit_code"] == 0

    again = submit(*arguments)
    assert again.returncode == 0, output(again)
    assert "nothing to do" in output(again)
    assert len(events(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "{out}", "--videos", "{out}/nowhere"], 2, "does not exist"),
        (["--out", "{out}", "--videos", "{videos}", "--config", "missing.yaml"], 2, "missing.yaml does not exist"),
        (["--out", "{out}"], 2, "name what to build from, --videos or --lists"),
        (["--out", "out", "--videos", "{videos}"], 2, "--out out lies in Ray's copy of your working directory"),
    ],
)
def test_bad_usage_fails_the_job_and_its_log_has_the_reason(submit, videos, tmp_path, arguments, code, message):
    done = submit(*(argument.format(out=tmp_path / "out", videos=videos) for argument in arguments))
    assert done.returncode == 1  # all that Ray's job tools tell
    assert message in output(done)
    assert f"exit code {code}" in output(done)
    assert not (tmp_path / "out").exists()


def test_a_stopped_job_leaves_a_dataset_that_the_next_job_completes(submit, dashboard, many_videos, tmp_path):
    out = tmp_path / "out"
    arguments = ("--videos", many_videos, "--out", out, "--config", "configs/mine.yaml")

    submitted = submit(*arguments, options=("--no-wait", "--submission-id", "stopped"))
    assert submitted.returncode == 0, output(submitted)
    client = JobSubmissionClient(dashboard)
    wait_until(lambda: out.is_dir() and (out / "commits").is_dir() and num_done(out) > 0, client)
    client.stop_job("stopped")  # what `ray job stop` calls: SIGTERM, and SIGKILL 3 seconds later
    wait_until(lambda: client.get_job_status("stopped").is_terminal(), client)
    assert client.get_job_status("stopped") == JobStatus.STOPPED
    before = read_state(open_store(str(out)))
    assert 0 < len(before.done) < len(LONG)
    assert "interrupted" in client.get_job_logs("stopped")
    assert events(out)[0][-1]["exit_code"] == 130

    completed = submit(*arguments)
    assert completed.returncode == 0, output(completed)
    after = read_state(open_store(str(out)))
    assert len(after.done) == len(LONG)
    assert set(before.files) <= set(after.files)  # what was committed stays
    assert events(out)[1][-1]["videos"] == len(LONG) - len(before.done)  # and is not done again


def wait_until(condition: Callable[[], bool], client: JobSubmissionClient, limit_s: float = 240) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, client.get_job_logs("stopped")
        time.sleep(0.1)
