"""A training that takes a moment: four numbers are doubled, from batches that a position decides."""

import time
from typing import Any, NamedTuple

import torch
from torch import nn

from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.task import Scored
from autorecap.training.loop.trainer import Trainer


class Rows(NamedTuple):
    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    x: torch.Tensor


class Regression(nn.Module):
    """Learns y = 2 x through batch norm and dropout; a NaN in x makes the loss NaN."""

    def __init__(self, noisy: bool) -> None:
        super().__init__()
        first: list[nn.Module] = [nn.BatchNorm1d(4)] if noisy else []
        self.layers = nn.Sequential(*first, nn.Linear(4, 16), nn.Dropout(0.2 * noisy), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, batch: Rows) -> Scored:
        loss = (self.layers(batch.x) - 2 * batch.x).square().mean()
        return Scored(loss, len(batch.x), {"twice": 2 * loss.item()})


class Numbers:
    """Samples drawn from their position; notes which were asked for. Batches take unequal times."""

    def __init__(self, bad: range = range(0), gone: range = range(0), noisy: bool = True) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = Regression(noisy)
        self.asked: list[int] = []
        self.used: list[float] = []
        self.bad, self.gone = bad, gone

    def batch(self, positions: range) -> Rows:
        time.sleep(0.002 * (positions.start % 3))
        self.asked += positions
        there = [p for p in positions if p not in self.gone]
        rows = [torch.randn(4, generator=torch.Generator().manual_seed(p)) for p in there]
        rows = [row * float("nan") if p in self.bad else row for p, row in zip(there, rows, strict=True)]
        return Rows(
            tuple(f"clip-{p}" for p in there),
            tuple(f"clip-{p}: no such file" for p in positions if p in self.gone),
            torch.stack(rows) if rows else torch.zeros(0, 4),
        )

    def to(self, batch: Rows, device: torch.device) -> Rows:
        self.used.append(float(batch.x[0, 0]))
        return batch._replace(x=batch.x.to(device))


def config(**changes: Any) -> LoopConfig:
    return LoopConfig(**{"steps": 12, "batch_size": 4, "lr": 1e-2, "warmup_steps": 3, "log_every": 4} | changes)


def silent(line: dict[str, float]) -> None:
    pass


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in trainer.module.state_dict().values()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
