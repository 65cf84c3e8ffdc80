"""Training over several processes: the same losses as alone, another number of them after every stop, kills.

Also proves training/loop/sharding.py, whose pieces must give the same.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from autorecap.demo.sounds import synthesise
from autorecap.models.genau.backbones.config import SIZES as FIT_SIZES
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.model import GenAu, small_encoders
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.processes import ALONE
from tests.support.genau_ranks import BATCH, IDENTITY, NUM_CLIPS, STEPS, train, trainer_of
from tests.support.places import PROJECT

ROOT = PROJECT
STOPS = {4: 5, 2: 8, 3: STEPS}  # processes, and the step up to which they go


@pytest.fixture(scope="module")
def alone(tmp_path_factory: Any) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train(ALONE, "ddp", tmp_path_factory.mktemp("alone"), STEPS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any) -> dict[int, Any]:
    """What 4, 2 and 3 processes found: each a whole run by either sharding, and one run in three parts."""
    out = tmp_path_factory.mktemp("ranks")
    made = {}
    for count, until in STOPS.items():
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
        command += ["-m", "tests.support.genau_ranks", str(out), "--until", str(until), "--whole"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
        assert done.returncode == 0, done.stderr[-3_000:]
        made[count] = json.loads((out / f"found-{count}.json").read_text())
    return made


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("count", STOPS)
def test_losses_do_not_depend_on_the_number_of_processes(
    alone: dict[str, Any], found: dict[int, Any], count: int, sharding: str
) -> None:
    """With LAMB, clipping and uneven shares; without dropout, whose masks depend on the ranks."""
    losses = found[count][sharding]["losses"]
    assert [losses[str(step)] for step in alone["losses"]] == pytest.approx(list(alone["losses"].values()), rel=1e-4)
    assert alone["losses"][STEPS] < 0.95 * alone["losses"][1]  # it learns


@pytest.mark.slow
def test_a_run_goes_from_4_processes_to_2_to_3_and_uses_every_clip_once_an_epoch(
    alone: dict[str, Any], found: dict[int, Any]
) -> None:
    parts = [found[count]["elastic"] for count in STOPS]
    assert [part["from"] for part in parts] == [0, 5, 8]
    epoch_steps = NUM_CLIPS // BATCH
    epochs = [Counter() for _ in range(STEPS // epoch_steps)]  # type: ignore[var-annotated]
    for step, name in (each for part in parts for each in part["used"]):
        epochs[step // epoch_steps][name] += 1
    for number, epoch in enumerate(epochs):
        print(f"epoch {number}: {len(epoch)} clips, used {sorted(set(epoch.values()))} times each")
        assert len(epoch) == NUM_CLIPS and set(epoch.values()) == {1}
    losses = {int(step): loss for part in parts for step, loss in part["losses"].items()}
    assert [losses[step] for step in alone["losses"]] == pytest.approx(list(alone["losses"].values()), rel=1e-4)


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL while it computes or writes: it goes on from the last step that was saved, or from the one before where
    that was still being written."""
    train(ALONE, "fsdp", tmp_path / "whole", STEPS, save_every=1)
    rng = random.Random(0)
    kills, reached, out = 0, 0, tmp_path / "killed"
    while reached < STEPS:
        command = [sys.executable, "-m", "tests.support.genau_ranks", str(out), "--save-every", "1"]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        wait_for = rng.randint(1, 3)
        for _ in range(wait_for):
            line = child.stdout.readline()
            if not line:
                break
            begun = int(line.split()[1])
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += child.returncode == -signal.SIGKILL
        whole = checkpoint.all_in(out / "checkpoints")
        now = whole[-1].step if whole else 0
        assert now >= begun - 1  # a step is told before it is written, but after the one before it is
        assert now >= reached
        reached = now
    assert kills >= 3
    states = []
    for name in ("whole", "killed"):
        trainer = trainer_of(ALONE, "fsdp")
        checkpoint.load(checkpoint.all_in(tmp_path / name / "checkpoints")[-1], IDENTITY, trainer)
        states.append(trainer.tensors())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.slow
def test_two_processes_that_share_a_model_in_pieces_validate_sample_and_save_what_one_does(tmp_path: Path) -> None:
    """The whole command under torchrun with FSDP: what it writes is what a process alone writes."""
    rows = ["file_name,caption"]
    for kind in ("rain", "siren", "dog", "clock"):
        sound = synthesise(kind, 1.28, np.random.default_rng(0))
        soundfile.write(tmp_path / f"{kind}.wav", sound, 32_000)
        rows.append(f"{kind}.wav,The sound of a {kind}")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    torch.manual_seed(0)
    demo = replace(SIZES["demo"], backbone=replace(FIT_SIZES["demo"], dropout=0.0))  # its masks depend on the ranks
    GenAu(demo, small_encoders(demo)).save_pretrained(tmp_path / "init")
    config = ROOT / "configs" / "genau-demo.yaml"
    told: list[Any] = [
        "train",
        "genau",
        "--config",
        config,
        "--init",
        tmp_path / "init",
        "--device",
        "cpu",
        "--data",
        tmp_path / "mine.csv",
    ]
    told += ["--validate", tmp_path / "mine.csv"]
    for name, value in {
        "loop.steps": 3,
        "loop.batch_size": 4,
        "loop.ema_decay": 0.9,
        "loop.log_every": 1,
        "loop.warmup_steps": 1,  # else it goes nowhere in three steps, and rounding is most of the way
        "run.validate_every": 2,
        "run.sample_every": 2,
        "run.num_samples": 1,
        "task.sample_seconds": 0.64,
        "task.sample_steps": 2,
    }.items():
        told += ["--set", f"{name}={value}"]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for name, processes, sharding in (("one", [], "ddp"), ("two", torchrun, "fsdp")):
        command = [sys.executable, *processes, "-m", "autorecap", *told, "--out", str(tmp_path / name)]
        command += ["--set", f"loop.sharding={sharding}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)
        assert done.returncode == 0, done.stderr[-3_000:]
    models = (tmp_path / "init", tmp_path / "one" / "model", tmp_path / "two" / "model")
    init, one, two = (load_file(folder / "model.safetensors") for folder in models)
    assert init.keys() == one.keys() == two.keys()
    learned = [name for name, tensor in one.items() if not torch.equal(tensor, init[name])]
    assert len(learned) > 50
    went = {name: (one[name] - init[name]).norm() for name in learned}
    apart = {name: (two[name] - one[name]).norm() for name in learned}
    assert torch.stack(list(apart.values())).norm() < 0.05 * torch.stack(list(went.values())).norm()
    # Where gradients are next to nothing, the optimiser makes much of their rounding.
    assert all(apart[name] < 0.5 * went[name] for name in learned)
    scores = []
    for name in ("one", "two"):
        with (tmp_path / name / "log.jsonl").open() as file:
            scores.append([row["validation_loss"] for row in map(json.loads, file) if row["kind"] == "validation"])
    assert len(scores[0]) == 2 and scores[1] == pytest.approx(scores[0], rel=1e-3)
    first, second = (soundfile.read(tmp_path / name / "samples" / "2" / "0.wav")[0] for name in ("one", "two"))
    assert np.abs(first - second).max() < 0.05
