"""The wheel in an environment without the checkout, in a folder full of packages with our rooms' names."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from autorecap.demo.corpus import CORPUS, synthesise_corpus
from autorecap.demo.sounds import synthesise
from tests.fakes.ray_head import free_port, ray_head
from tests.support.hostile import make_hostile
from tests.support.places import PROJECT
from tests.test_layout import copy_of_the_checkout

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Run = Callable[..., str]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_of_the_checkout(folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(folder), str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has the wheel; what it depends on is taken from where the tests run."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, capture_output=True, env=elsewhere)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # a path in a .pth file: the .pth files that lie there, an editable installation's among them, are not read
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "bin" / "ray").write_text(
        f"#!{folder / 'bin' / 'python'}\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"
    )
    (folder / "bin" / "ray").chmod(0o755)
    return folder / "bin"


@pytest.fixture(scope="module")
def environment(installed) -> Iterator[dict[str, str]]:
    """What the programs run in: nothing of the checkout is on their path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH")
        patch.setenv("PATH", str(installed), prepend=os.pathsep)
        yield dict(os.environ)


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """A folder of somebody's: hostile packages, four videos, a sound and a list that names it."""
    folder = make_hostile(tmp_path_factory.mktemp("mine"))
    synthesise_corpus(folder / "videos", videos=CORPUS[:4])
    soundfile.write(folder / "rain.wav", synthesise("rain", 2.0, np.random.default_rng(0)), 32_000)
    (folder / "sounds.csv").write_text("file_name,caption\nrain.wav,Rain falls.\n")
    return folder


@pytest.fixture
def run(installed, environment, mine) -> Run:
    def run(program: str, *arguments: object, given: str = "") -> str:
        """What the program prints on standard output."""
        command = [str(installed / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=mine, env=environment, input=given, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def demo_config(run) -> str:
    """The demo's settings, as they were installed."""
    code = "from autorecap.base.settings_files import CONFIGS; print(CONFIGS / 'demo.yaml')"
    return run("python", "-c", code).strip()


def test_the_wheel_holds_one_top_level_name(wheel) -> None:
    with zipfile.ZipFile(wheel) as files:
        tops = {name.partition("/")[0] for name in files.namelist()}
    assert sorted(top for top in tops if not top.endswith(".dist-info")) == ["autorecap"]


def test_it_runs_from_where_it_was_installed(run, installed) -> None:
    found = run("python", "-c", "import autorecap.stages.records as found; print(found.__file__)").strip()
    assert Path(found).is_relative_to(installed.parent)


def test_commands_answer(run) -> None:
    assert "build" in run("autorecap", "--help") and "build" in run("python", "-m", "autorecap", "--help")
    assert run("autorecap", "filter", given="A man speaks as birds sing\n").startswith("drop  speaks")
    assert "rain" in run("autorecap", "caption", "rain.wav").lower()


@pytest.mark.parametrize("script", ["build_autorecap_xl.py", "train_genau.py"])
def test_the_scripts_that_ray_submit_copies_to_a_cluster_run_from_anywhere(run, mine, script) -> None:
    shutil.copy(PROJECT / script, mine)
    assert "--out" in run("python", script, "--help")


def test_a_build_on_ray_and_a_training_of_two_processes(run, mine, demo_config) -> None:
    run("autorecap", "build", "--videos", "videos", "--out", "out", "--config", demo_config, "--address", "local")
    assert json.loads(run("autorecap", "inspect", "out", "--json"))["totals"]["clips"] > 0
    told = ["train", "autocap", "--init", "demo", "--data", "sounds.csv@.", "--out", "run"]
    for setting in ("loop.steps=2", "loop.batch_size=2", "loop.log_every=1"):
        told += ["--set", setting]
    run("python", "-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone", "-m", "autorecap", *told)
    assert (mine / "run" / "model" / "model.safetensors").exists()


def test_a_job_whose_working_directory_is_somebodys(run, mine, environment, demo_config) -> None:
    port = free_port()
    options = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
    options += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
    with ray_head(*options, environment=environment):
        job = ["job", "submit", "--address", f"http://127.0.0.1:{port}", "--working-dir", ".", "--", "autorecap"]
        job += ["build", "--videos", mine / "videos", "--out", mine / "by-a-job", "--config", demo_config]
        run("ray", *job)
    shards = [{path.name for path in (mine / out / "shards").glob("*.tar")} for out in ("out", "by-a-job")]
    assert shards[0] and shards[0] == shards[1]
