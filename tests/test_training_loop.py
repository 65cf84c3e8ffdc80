"""The loop: order, resume, schedule, guards; and a captioner that learns a few clips by heart."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.autocap import SIZES, AutoCap, CaptionTokenizer
from pipeline.demo import sentences, train_captioner
from pipeline.demo.sounds import KINDS
from pipeline.demo.train_captioner import SceneExamples
from pipeline.training.autocap_task import AutoCapTask, AutoCapTaskConfig, disturb
from pipeline.training.loop import LoopConfig, Trainer, TrainingDivergedError, learning_rate, logger, parameter_groups


class Regression(nn.Module):
    """Learns y = 2 x through batch norm and dropout; a NaN in x makes the loss NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        loss = (self.layers(x) - 2 * x).square().mean()
        return loss, {"twice": 2 * loss.item()}


class Numbers:
    """Samples drawn from their position; notes which were asked for. Batches take unequal times."""

    def __init__(self, bad: range = range(0)) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = Regression()
        self.asked: list[int] = []
        self.used: list[float] = []
        self.bad = bad

    def batch(self, positions: range) -> torch.Tensor:
        time.sleep(0.002 * (positions.start % 3))
        self.asked += positions
        rows = [torch.randn(4, generator=torch.Generator().manual_seed(p)) for p in positions]
        return torch.stack(
            [row * float("nan") if p in self.bad else row for p, row in zip(positions, rows, strict=True)]
        )

    def to(self, batch: Any, device: torch.device) -> Any:
        self.used.append(float(batch[0, 0]))
        return batch.to(device)


def config(**changes: Any) -> LoopConfig:
    return LoopConfig(**{"steps": 12, "batch_size": 4, "lr": 1e-2, "warmup_steps": 3, "log_every": 4} | changes)


def silent(line: dict[str, float]) -> None:
    pass


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in trainer.module.state_dict().values()]


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
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = Trainer(Numbers(), config())
    whole.run(silent)
    first = Trainer(Numbers(), config())
    first.run(silent, until=5)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    torch.manual_seed(123)
    second = Trainer(Numbers(), config())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    second.run(silent)
    assert second.step == 12
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_batch_without_a_finite_loss_changes_nothing() -> None:
    trainer = Trainer(Numbers(bad=range(4, 8)), config())
    trainer.run(silent, until=1)
    before = weights(trainer)
    trainer.run(silent, until=2)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
    trainer.run(silent, until=3)
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
    assert all(bool(torch.isfinite(p).all()) for p in weights(trainer))


def test_training_gives_up_when_no_loss_is_finite() -> None:
    trainer = Trainer(Numbers(bad=range(100)), config(max_bad_steps=3))
    with pytest.raises(TrainingDivergedError, match="3 steps in a row"):
        trainer.run(silent)
    assert trainer.step == 2


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    settings = config(steps=100, warmup_steps=10, lr=1.0, min_lr_share=0.1)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_only_matrices_decay() -> None:
    decayed, rest = parameter_groups(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), 0.1)
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def test_log_lines_are_json_and_readable(tmp_path: Path) -> None:
    shown: list[str] = []
    Trainer(Numbers(), config()).run(logger(tmp_path / "log.jsonl", shown.append))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert {"loss", "twice", "grad_norm", "lr", "samples_per_s", "eta_s"} <= set(lines[0])
    assert len(shown) == 3
    assert "ready in 0:00" in shown[-1]


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        config(batch_size=0)


# --- AutoCap as a task


def autocap_task(num_scenes: int, **changes: Any) -> AutoCapTask:
    torch.manual_seed(0)
    size = SIZES["demo"]
    model = AutoCap(size, CaptionTokenizer.train(sentences.corpus(), size.bart.vocab))
    return AutoCapTask(model, SceneExamples(3, num_scenes), AutoCapTaskConfig(tag_weight=1.0, **changes))


def test_a_batch_is_a_function_of_its_positions_cached_or_not() -> None:
    tasks = [autocap_task(4, cached_clips=cached) for cached in (4, 2, 0)]
    tasks[0].batch(range(2, 4))  # warms one cache
    batches = [task.batch(range(3, 6)) for task in tasks]
    for other in batches[1:]:
        for a, b in zip((*batches[0].features, *batches[0][1:]), (*other.features, *other[1:]), strict=True):
            assert torch.equal(a, b)
    assert batches[0].features.htsat.shape == batches[0].features.clap.shape == (3, 1_001, 64)
    assert batches[0].tags.sum(dim=1).min() >= 1


def test_every_parameter_of_the_captioner_gets_a_gradient() -> None:
    task = autocap_task(4)
    loss, numbers = task.module(task.batch(range(4)))
    loss.backward()
    without = [name for name, p in task.module.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # Tags of unused metadata share one table with the used ones; the keys' biases cancel in every softmax.
    assert [name for name in without if not name.endswith(("key.bias", "k_proj.bias"))] == []
    assert set(numbers) == {"caption_loss", "tag_loss"}


def test_disturbances_keep_shape_floor_and_are_the_same_for_both_encoders() -> None:
    mel = torch.randn(1, 1_001, 64) * 20
    for seed in range(20):
        a, b = disturb([mel, mel.clone()], -40.0, np.random.default_rng(seed))
        assert torch.equal(a, b)
        assert a.shape == mel.shape
        assert bool(torch.isfinite(a).all())
        assert a.min() >= -40.0


def test_the_captioner_learns_a_few_clips_by_heart() -> None:
    torch.set_num_threads(2)
    task = autocap_task(4, cached_clips=4, augment=False, label_smoothing=0.0)
    examples = [task.examples(position) for position in range(4)]

    class Fixed:
        num_tags = task.examples.num_tags

        def __call__(self, position: int) -> Any:
            return examples[position % 4]

    task.examples = Fixed()
    losses: list[float] = []
    trainer = Trainer(task, LoopConfig(steps=60, batch_size=4, lr=2e-3, warmup_steps=10, log_every=1))
    trainer.run(lambda line: losses.append(line["caption_loss"]))
    assert losses[-1] < 0.2 < 3 < losses[0]
    captions = task.model.caption(
        [example.load() for example in examples],
        examples[0].sample_rate_hz,
        [example.title for example in examples],
        [example.video_caption for example in examples],
    )
    assert captions == [example.caption for example in examples]


def test_a_captioner_that_hears_too_little_replaces_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {condition: dict.fromkeys(KINDS, 0.95) for condition in ("clean", "recorded", "misled", "mix")}
    shares["misled"] = dict.fromkeys(KINDS, 0.89)
    monkeypatch.setattr(train_captioner, "evaluate", lambda model: shares)
    (tmp_path / "config.json").write_text("the good one")
    assert train_captioner.main(["--out", str(tmp_path), "--steps", "1", "--batch-size", "2", "--scenes", "2"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "the good one"
    assert "is left as it is" in capsys.readouterr().out
