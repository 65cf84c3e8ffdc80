"""One Ray cluster and one synthesised corpus for all integration tests of a process."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autorecap.base.settings_files import CONFIGS
from autorecap.demo.corpus import synthesise_corpus
from tests.fakes.ray_head import ray_head
from tests.support.hostile import make_hostile


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    with ray_head() as address:
        yield address


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    synthesise_corpus(folder)
    return folder


Start = Callable[..., subprocess.Popen]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """A folder with packages that bear our rooms' names, as nearly every audio project has them."""
    return make_hostile(tmp_path_factory.mktemp("mine"))


@pytest.fixture
def start_build(ray_address, hostile) -> Iterator[Start]:
    """Start `autorecap build` with the demo's settings as a process of its own, connected to the cluster.

    It runs in a folder full of packages with our rooms' names.

    With `own_ray` it starts a Ray of its own, whose workers have the environment of this moment.
    """
    running = []

    def start(videos: Path, out: Path | str, *arguments: str, own_ray: bool = False) -> subprocess.Popen:
        command = [sys.executable, "-m", "autorecap", "build", "--videos", str(videos), "--out", str(out)]
        command += ["--config", str(CONFIGS / "demo.yaml"), *arguments]
        command += ["--address", "local" if own_ray else ray_address]
        process = subprocess.Popen(command, cwd=hostile, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def build(start_build) -> Callable[..., subprocess.CompletedProcess]:
    """Run `autorecap build` to its end."""

    def run(*arguments, **options) -> subprocess.CompletedProcess:
        process = start_build(*arguments, **options)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run
