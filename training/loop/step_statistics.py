"""Step statistics: losses, skips and requests of a step, kept on the device until they can be read without waiting."""

import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.task import Batch, Scored


@dataclass(frozen=True)
class StepOutcome:
    """The statistics of a step over all processes, as the host reads them."""

    bad: bool  # it was skipped
    any_clips: bool
    num_unreadable: int
    stop: bool
    save: bool
    names: tuple[str, ...]  # clips of this process that may be why it was skipped


class StepStatistics:
    """Statistics of one step, gathered on the device and read later."""

    def __init__(self, step: int, batches: Sequence[Batch]) -> None:
        self.step, self.batches = step, batches
        self._finite: list[tuple[Batch, Tensor]] = []
        self._bad: list[Tensor] = []
        self._any_clips: list[Tensor] = []

    def add_loss(self, batch: Batch, finite: Tensor) -> None:
        """Note whether the loss of a micro-batch is finite."""
        self._finite.append((batch, finite))

    def add_turn(self, bad: Tensor, any_clips: Tensor) -> None:
        """Note whether a player's turn was skipped, and whether any process had a clip for it."""
        self._bad.append(bad)
        self._any_clips.append(any_clips)

    @property
    def bad(self) -> Tensor:
        """1 if a player's turn was skipped, else 0."""
        return torch.stack(self._bad).any().float()

    def close(self, ranks: Ranks, device: torch.device, requests: tuple[bool, bool]) -> None:
        """Sum over all processes, and send the statistics to the host without waiting. `requests`: stop, save."""
        unreadable = sum(len(batch.unreadable) for batch in self.batches)
        counts = torch.tensor([unreadable, *requests], dtype=torch.float64)
        own = torch.stack([finite for _, finite in self._finite]) if self._finite else torch.ones(0, device=device)
        own = own.double()
        suspects = (1 - own).sum()[None]
        together = ranks.sum(torch.cat([counts.to(device, non_blocking=True), suspects]))
        any_clips = torch.stack(self._any_clips).any().double()
        vector = torch.cat([self.bad.double()[None], any_clips[None], together, own])
        self._event: Any = None
        if device.type == "cuda":
            self._vector = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)
            self._vector.copy_(vector, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._vector = vector

    def read(self) -> StepOutcome:
        """Wait until the statistics are on the host, and return them."""
        if self._event is not None:
            self._event.synchronize()
        bad, any_clips, unreadable, stop, save, suspects, *own = self._vector.tolist()
        names: Iterable[str] = ()
        if bad and suspects:
            names = (
                name for (batch, _), fine in zip(self._finite, own, strict=True) if not fine for name in batch.names
            )
        elif bad:  # the gradient was not finite, or became so in the sum
            names = (name for batch in self.batches for name in batch.names)
        return StepOutcome(bool(bad), bool(any_clips), int(unreadable), stop > 0, save > 0, tuple(dict.fromkeys(names)))


class LogMeans:
    """Means of the logged numbers over the steps since the last line. Skipped steps do not count; sums stay on the
    device."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: Tensor | None = None
        self._flops = 0.0
        self._since = time.perf_counter()

    def add(self, scores: Sequence[tuple[Scored, Tensor]], total_weight: Tensor, bad: Tensor, prefix: str) -> None:
        """Add the numbers of this process's micro-batches of a step, each weighted by what its loss is a mean of."""
        for scored, weight in scores:
            self._flops += scored.flops
            for name, value in scored.numbers.items():
                value = torch.as_tensor(value, dtype=torch.float64, device=bad.device)
                self.add_totals({prefix + name: value * weight / total_weight}, bad)

    def add_totals(self, numbers: Mapping[str, Tensor], bad: Tensor) -> None:
        """Add numbers of the step as a whole, which one process knows for all."""
        for name, value in numbers.items():
            value = torch.where(bad, 0.0, value.detach().double())
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def end_step(self, bad: Tensor) -> None:
        """Count a step, unless it was skipped."""
        self._steps = 1 - bad if self._steps is None else self._steps + 1 - bad

    def take(self, ranks: Ranks) -> tuple[dict[str, float], float]:
        """Return the means over all processes, loss first, and operations a second; then begin anew. Waits."""
        names = list(self._sums)
        mine = torch.stack([self._sums[name] for name in names]).tolist() if names else []
        steps = float(self._steps) if self._steps is not None else 0.0
        every = ranks.gather((dict(zip(names, mine, strict=True)), self._flops))
        seconds = time.perf_counter() - self._since
        self._begin()
        totals: dict[str, float] = {}
        for sums, _ in every:
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + value
        if not steps:
            return {}, 0.0
        ordered = sorted(totals, key=lambda name: (name != "loss", name == "grad_norm"))
        return {name: totals[name] / steps for name in ordered}, sum(flops for _, flops in every) / seconds


def memory_gb(device: torch.device) -> float:
    """Return the peak memory of this process in GB: on a GPU, that of the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
