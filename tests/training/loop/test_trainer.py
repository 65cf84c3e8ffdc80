"""The loop: order, guards, optimisers, stops, several processes.

Also proves training/loop/config.py, training/loop/task.py and training/loop/step_statistics.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autorecap.base.errors import ForeseenError
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.lamb import Lamb
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import Trainer, TrainingStoppedError
from tests.support import gpu_box
from tests.support.places import PROJECT
from tests.support.small_training import Numbers, config, same, silent, weights

# --- order


def test_batches_are_used_in_order_whatever_the_threads() -> None:
    expected = [float(torch.randn(4, generator=torch.Generator().manual_seed(4 * step))[0]) for step in range(12)]
    results = []
    for threads, prefetch in ((1, 1), (3, 5)):
        task = Numbers()
        trainer = Trainer(task, config(threads=threads, prefetch=prefetch))
        trainer.run(silent)
        assert task.used == expected
        assert sorted(task.asked) == list(range(48))
        results.append(weights(trainer))
    assert same(*results)


def test_ranks_share_a_batch_without_gaps_or_overlaps() -> None:
    shares = [Ranks(rank, 3).share(range(20, 30)) for rank in range(3)]
    assert [list(share) for share in shares] == [[20, 21, 22], [23, 24, 25], [26, 27, 28, 29]]


def test_micro_batches_change_memory_and_not_the_result() -> None:
    runs = []
    for size in (0, 1, 3):
        trainer = Trainer(Numbers(noisy=False), config(micro_batch_size=size))
        lines: list[dict[str, float]] = []
        trainer.run(lines.append)
        runs.append((weights(trainer), [line["loss"] for line in lines]))
    for found, losses in runs[1:]:
        for a, b in zip(runs[0][0], found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        assert losses == pytest.approx(runs[0][1], rel=1e-4)


@pytest.mark.slow
def test_a_compiled_module_learns_the_same() -> None:
    lines: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for compiled, found in lines.items():
        trainer = Trainer(Numbers(noisy=False), config(compiled=compiled))
        trainer.run(found.append)
        assert "layers.0.weight" in trainer.module.state_dict()
    assert [line["loss"] for line in lines[True]] == pytest.approx([line["loss"] for line in lines[False]], rel=1e-4)


def test_epochs_become_steps_of_the_data_at_hand() -> None:
    settings = LoopConfig(epochs=3, warmup_epochs=0.5, batch_size=10).resolved(num_samples=205)
    assert (settings.steps, settings.warmup_steps) == (62, 10)
    assert LoopConfig(steps=7, epochs=3).resolved(205).steps == 7
    with pytest.raises(ValueError, match="resolved"):
        Trainer(Numbers(), LoopConfig())


def test_processes_without_a_clip_each_and_sharding_that_a_model_does_not_know_are_refused() -> None:
    with pytest.raises(ForeseenError, match="5 processes cannot share a batch of 4 clips"):
        Trainer(Numbers(), config(), ranks=Ranks(0, 5))
    with pytest.raises(ForeseenError, match=r"sharding=fsdp is not supported for this model.*use loop\.sharding=ddp"):
        Trainer(Numbers(), config(sharding="fsdp"), ranks=Ranks(0, 2))


# --- guards


def test_a_batch_without_a_finite_loss_changes_nothing_and_is_named() -> None:
    said: list[str] = []
    trainer = Trainer(Numbers(bad=range(5, 6)), config(), say=said.append)
    trainer.run(silent, until=1)
    before = weights(trainer)
    trainer.run(silent, until=2)
    assert same(before, weights(trainer))
    assert said == ["step 1: skipped, loss or gradient is not finite; clips: clip-4, clip-5, clip-6, clip-7"]
    trainer.run(silent, until=3)
    assert not same(before, weights(trainer))
    assert all(bool(torch.isfinite(p).all()) for p in weights(trainer))


def test_of_micro_batches_only_the_bad_one_is_named() -> None:
    said: list[str] = []
    Trainer(Numbers(bad=range(5, 6)), config(micro_batch_size=2), say=said.append).run(silent, until=2)
    assert said == ["step 1: skipped, loss or gradient is not finite; clips: clip-4, clip-5"]


def test_training_gives_up_when_no_loss_is_finite() -> None:
    trainer = Trainer(Numbers(bad=range(100)), config(max_bad_steps=3), say=lambda text: None)
    with pytest.raises(TrainingStoppedError, match="3 steps in a row"):
        trainer.run(silent)
    assert trainer.step == 2


def test_a_short_run_that_learned_nothing_fails_and_says_why() -> None:
    said: list[str] = []
    with pytest.raises(TrainingStoppedError, match="2 steps in a row"):
        Trainer(Numbers(gone=range(8)), config(steps=2, max_unreadable_share=1.0), say=said.append).run(silent)
    assert said[-1] == "step 1: skipped, no clip could be read"


def test_clips_that_cannot_be_read_are_named_counted_and_left_out() -> None:
    said: list[str] = []
    lines: list[dict[str, float]] = []
    trainer = Trainer(Numbers(gone=range(5, 8), noisy=False), config(), say=said.append)
    trainer.run(lines.append)
    assert said[0] == "step 1: left out, as it cannot be read: clip-5: no such file"
    assert len(said) == 3
    assert [line["unreadable"] for line in lines] == [3, 3, 3]
    assert lines[0]["skipped"] == 0  # the one clip that was there did its work


def test_training_stops_where_too_many_clips_cannot_be_read() -> None:
    said: list[str] = []
    trainer = Trainer(Numbers(gone=range(8, 100)), config(max_bad_steps=100), say=said.append)
    with pytest.raises(TrainingStoppedError, match=r"step 3: 8 of 16 times a clip could not be read"):
        trainer.run(silent)
    assert trainer.step == 3
    with pytest.raises(TrainingStoppedError, match="steps in a row"):  # a step without any clip is a bad one
        Trainer(Numbers(gone=range(100)), config(max_bad_steps=1), say=said.append).run(silent)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for change, message in (
        ({"batch_size": 0}, r"loop\.batch_size: expected 1 or more, found 0"),
        ({"optimizer": "sgd"}, "expected adam, adamw or lamb, found 'sgd'"),
        ({"precision": "fp8"}, "auto, fp32 or bf16"),
        ({"steps": 0, "epochs": 0}, "expected more than 0, since loop.epochs is 0"),
        ({"max_grad_norm": -1.0}, r"loop\.max_grad_norm: expected more than 0, found -1"),
        ({"betas": (0.9, 1.0)}, r"loop\.betas: expected 0 to below 1 for each, found 1\.0"),
        ({"min_lr_share": 2.0}, r"loop\.min_lr_share: expected 0 to 1, found 2\.0"),
    ):
        with pytest.raises(ValueError, match=message):
            config(**change)


# --- optimiser and schedule


def test_lamb_learns_with_the_settings_of_the_loop_and_decays_everything() -> None:
    losses: list[float] = []
    trainer = Trainer(Numbers(), config(steps=60, optimizer="lamb", lr=0.05, weight_decay=0.01, log_every=20))
    assert isinstance(trainer.optimizer, Lamb)
    (group,) = trainer.optimizer.param_groups
    assert (len(group["params"]), group["weight_decay"], group["betas"]) == (len(trainer.trained), 0.01, (0.9, 0.98))
    trainer.run(lambda line: losses.append(line["loss"]))
    assert losses[-1] < 0.75 * losses[0]


def test_long_gradients_are_shortened() -> None:
    task = Numbers(noisy=False)
    trainer = Trainer(task, config(max_grad_norm=0.001, optimizer="adam"))
    norms: list[float] = []
    trainer.optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            float(torch.cat([p.grad.flatten() for p in trainer.trained if p.grad is not None]).norm())
        )
    )
    trainer.run(silent)
    assert norms and max(norms) == pytest.approx(0.001, rel=1e-3)


# --- stop


def test_a_run_that_is_asked_to_stop_ends_after_its_step() -> None:
    trainer = Trainer(Numbers(), config())

    def stop_soon() -> None:
        if trainer.step == 4:
            trainer.request_stop()

    assert trainer.run(silent, after_step=stop_soon) is False
    assert trainer.step == 5


# --- several processes


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Losses and weights are equal to rounding; a NaN on one rank skips the step on both, and rank names its clips."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "tests.support.two_ranks", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "rank 1: step 2: skipped" in done.stdout and "clip-13" in done.stdout
    alone = Trainer(Numbers(bad=range(13, 14), noisy=False), config(batch_size=5), say=lambda text: None)
    losses: list[float] = []
    alone.run(lambda line: losses.append(line["loss"]))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert same(found[0]["weights"], found[1]["weights"])
    for a, b in zip(found[0]["weights"], weights(alone), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert found[0]["losses"] == pytest.approx(losses, rel=1e-5)
    assert found[1]["losses"] == []


def test_training_needs_torch_transformers_and_einops_alone() -> None:
    """GPU machines often have nothing else; what reads audio and datasets is imported when it is wanted."""
    done = gpu_box.run(f"""
import importlib
for name in {gpu_box.modules_of("training")}:
    importlib.import_module(name)

import torch
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.text.conditioning import Condition
from autorecap.training.genau.task import GenAuLoss, NoisyBatch
from autorecap.base.errors import ForeseenError
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.trainer import Trainer

class Latents:
    def __init__(self):
        model = GenAu.new("demo").requires_grad_(False)
        model.backbone.requires_grad_(True)
        self.module = GenAuLoss(model)

    def batch(self, positions):
        draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(positions.start))
        size, width = len(positions), self.module.config.context.summary_width
        condition = Condition(Text(draw(size, width)), torch.zeros(size, dtype=torch.long))
        return NoisyBatch(
            tuple(map(str, positions)), (), (32,) * size, draw(size, 16, 32), draw(size, 16, 32), None,
            torch.full((size,), 500), condition,
        )

    def to(self, batch, device):
        return batch

lines = []
trainer = Trainer(Latents(), LoopConfig(steps=2, batch_size=2, lr=1e-3, optimizer="lamb", ema_decay=0.9, log_every=1))
assert trainer.run(lines.append) and [line["skipped"] for line in lines] == [0, 0], lines
""")
    assert done.returncode == 0, done.stderr
