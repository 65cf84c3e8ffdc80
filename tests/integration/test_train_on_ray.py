"""Training in Ray Train's workers: a whole run, a worker that is killed, more workers than there is room for."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from ray.cluster_utils import Cluster

from autorecap.base.errors import ForeseenError
from autorecap.cluster.train import train_on_ray
from autorecap.cluster.workers import Workers
from autorecap.demo import sentences
from autorecap.demo.sounds import synthesise
from autorecap.training.autocap.recipe import AutoCapTraining, train_autocap
from autorecap.training.loop.config import LoopConfig
from autorecap.training.recipe import RunConfig, RunError
from tests.fakes.ray_head import ray_head
from tests.support.apart import apart
from tests.support.ray_recipes import STEP_3, STEP_5, train_and_wait, train_until_told

pytestmark = [pytest.mark.ray, pytest.mark.slow]

KINDS = ("rain", "siren", "dog", "clock")
STEPS = 6
TWO = Workers(least=2, most=2, cpus=0.5)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with ray_head() as found:
            yield found


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> str:
    """A folder of four synthesised sounds with their captions."""
    folder = tmp_path_factory.mktemp("sounds")
    rows = ["file_name,caption"]
    for number, kind in enumerate(KINDS):
        soundfile.write(folder / f"{kind}.wav", synthesise(kind, 1.0, np.random.default_rng(number)), 32_000)
        rows.append(f"{kind}.wav,{sentences.caption([kind], 'single', np.random.default_rng(0))}")
    (folder / "mine.csv").write_text("\n".join(rows))
    return str(folder / "mine.csv")


def settings(save_every: int) -> AutoCapTraining:
    return AutoCapTraining(
        loop=LoopConfig(steps=STEPS, batch_size=4, optimizer="adam", log_every=1, threads=1),
        run=RunConfig(save_every=save_every),
    )


def train(data: str, out: Path, *, recipe: Callable[..., Any] = train_autocap, **options: Any) -> Any:
    """`train_on_ray` with what the tests share."""
    options = {"workers": TWO, "say": lambda line: None, "init": "demo", **options}
    return train_on_ray(recipe, settings(save_every=2), [data], out, **options)


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def losses(out: Path) -> list[tuple[str, str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"], row["grad_norm"]) for row in csv.DictReader(file)]


def test_a_run_whose_worker_is_killed_ends_as_one_that_was_left_alone(address: str, data: str, tmp_path: Path) -> None:
    """SIGKILL of the second of two workers: both start again from the checkpoint, and what is learned from which clip
    at which step is the same to the last bit of the weights, so no clip was skipped and none used twice."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    outcome, said = apart(train_whole, address, data, whole)
    assert (outcome.step, outcome.model) == (STEPS, str(whole / "model"))
    assert any("on 2 x cpu" in line for line in said)
    assert [step for step, _, _ in losses(whole)] == list("123456")

    said = apart(train_and_kill_a_worker, address, data, killed)
    assert any("going on after step 2" in line for line in said)
    assert losses(killed) == losses(whole)
    assert weights(killed) == weights(whole)
    assert not list(killed.glob(".launched-*"))

    with pytest.raises(RunError, match="holds a run that reached step-00000006: add --resume"):
        train(data, killed, address=address)


def train_whole(address: str, data: str, out: Path) -> tuple[Any, list[str]]:
    said: list[str] = []
    return train(data, out, address=address, say=said.append), said


def train_and_kill_a_worker(address: str, data: str, out: Path) -> list[str]:
    """What a run says whose second worker is killed after step 3."""
    said: list[str] = []

    def kill_at_step_3(line: str) -> None:
        said.append(line)
        if line.startswith(STEP_3) and not (out / "go").exists():
            os.kill(int((out / "pid-1").read_text()), signal.SIGKILL)
            (out / "go").touch()

    train(data, out, address=address, recipe=train_and_wait, say=kill_at_step_3)
    return said


def test_what_the_recipe_refuses_ends_the_run_with_its_sentence(address: str, data: str, tmp_path: Path) -> None:
    """On every worker, and without restarts: they would end the same way."""
    message, exit_code = apart(refused, address, "gone.csv", tmp_path / "run")
    assert "gone.csv" in message and exit_code == 2
    with pytest.raises(RunError, match="no checkpoint to resume"):
        train(data, tmp_path / "run", address=address, resume=True)


def refused(address: str, data: str, out: Path) -> tuple[str, int]:
    try:
        train(data, out, address=address)
    except ForeseenError as error:
        return str(error), error.exit_code
    raise AssertionError("nothing was refused")


def test_a_machine_that_is_about_to_go_costs_no_step_that_was_done_when_it_was_known(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines with a worker each. One is to be taken away: a checkpoint is written at once, which none was due.
    Gone, it leaves one worker, which goes on from there to the end: one to two workers were asked for."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    out = tmp_path / "run"
    text = "\n".join(apart(lose_a_machine, data, out))
    assert "on 2 x cpu" in text and "the workers were started again: 1 of them" in text and "on 1 x cpu" in text
    assert "going on after step 3" in text or "going on after step 4" in text, text
    assert [step for step, _, _ in losses(out)] == list("123456")


def lose_a_machine(data: str, out: Path) -> list[str]:
    """What a run says that loses one of its two machines after step 3."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    said: list[str] = []
    try:
        _, leaving = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)

        def take_away(line: str) -> None:
            said.append(line)
            if line.startswith(STEP_3):
                drain(cluster.address, leaving.node_id)
            if line.startswith(STEP_5) and leaving in cluster.list_all_nodes():
                cluster.remove_node(leaving, allow_graceful=False)

        elastic = Workers(least=1, most=2, resize_s=5)
        never = settings(save_every=1_000)
        train_on_ray(
            train_until_told, never, [data], out, workers=elastic, address=cluster.address, init="demo", say=take_away
        )
    finally:
        cluster.shutdown()
    return said


def drain(address: str, node_id: str) -> None:
    """What a cloud's notice ends in, where Ray is told of it."""
    command = [str(Path(sys.executable).with_name("ray")), "drain-node", "--address", address, "--node-id", node_id]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    command += ["--deadline-remaining-seconds", "60"]
    subprocess.run(command, check=True, capture_output=True)
