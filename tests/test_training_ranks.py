"""Training over several processes: the same losses as alone, another number of them after every stop, kills."""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.training import checkpoint
from pipeline.training.ranks import ALONE
from tests.genau_ranks import BATCH, NUM_CLIPS, STEPS, TOLD, train, trainer_of

ROOT = Path(__file__).parents[1]
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
        command += ["-m", "tests.genau_ranks", str(out), "--until", str(until), "--whole"]
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
        command = [sys.executable, "-m", "tests.genau_ranks", str(out), "--save-every", "1"]
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
        checkpoint.load(checkpoint.all_in(tmp_path / name / "checkpoints")[-1], TOLD, trainer)
        states.append(trainer.tensors())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
