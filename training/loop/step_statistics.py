"""The numbers of a step, as long as they are on the device: losses, what was skipped, what was asked."""

import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.task import Scored


@dataclass(frozen=True)
class Found:
    """What came of a step, over all ranks."""

    bad: bool  # it was skipped
    any_clips: bool
    unreadable: int
    stop: bool
    save: bool
    names: tuple[str, ...]  # of this rank's clips that may be why it was skipped


class StepNumbers:
    """One step's, gathered on the device and read later."""

    def __init__(self, step: int, batches: Sequence[Any]) -> None:
        self.step, self.batches = step, batches
        self._finite: list[tuple[Any, Tensor]] = []
        self._bad: list[Tensor] = []
        self._known: list[Tensor] = []

    def finite(self, batch: Any, finite: Tensor) -> None:
        """Whether the loss of one micro-batch was."""
        self._finite.append((batch, finite))

    def add(self, bad: Tensor, known: Tensor) -> None:
        """What became of a player's turn."""
        self._bad.append(bad)
        self._known.append(known)

    @property
    def bad(self) -> Tensor:
        """1 where a player's turn was skipped, else 0."""
        return torch.stack(self._bad).any().float()

    def close(self, ranks: Ranks, device: torch.device, asked: tuple[bool, bool]) -> None:
        """Send what is known to the host, without waiting for it."""
        unreadable = sum(len(batch.unreadable) for batch in self.batches)
        said = torch.tensor([unreadable, *asked], dtype=torch.float64)
        own = torch.stack([finite for _, finite in self._finite]) if self._finite else torch.ones(0, device=device)
        own = own.double()
        suspects = (1 - own).sum()[None]
        together = ranks.sum(torch.cat([said.to(device, non_blocking=True), suspects]))
        known = torch.stack(self._known).any().double()
        vector = torch.cat([self.bad.double()[None], known[None], together, own])
        self._event: Any = None
        if device.type == "cuda":
            self._vector = torch.empty(vector.shape, dtype=vector.dtype, pin_memory=True)
            self._vector.copy_(vector, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._vector = vector

    def read(self) -> Found:
        """Wait for the numbers."""
        if self._event is not None:
            self._event.synchronize()
        bad, known, unreadable, stop, save, suspects, *own = self._vector.tolist()
        names: Iterable[str] = ()
        if bad and suspects:
            names = (
                name for (batch, _), fine in zip(self._finite, own, strict=True) if not fine for name in batch.names
            )
        elif bad:  # the gradient was not finite, or became so in the sum
            names = (name for batch in self.batches for name in batch.names)
        return Found(bool(bad), bool(known), int(unreadable), stop > 0, save > 0, tuple(dict.fromkeys(names)))


class Means:
    """Numbers to log, means over the steps since the last line. Sums stay on the device. Skipped steps do not count."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps: Tensor | None = None
        self._flops = 0.0
        self._since = time.perf_counter()

    def add(self, scores: Sequence[tuple[Scored, Tensor]], total_weight: Tensor, bad: Tensor, prefix: str) -> None:
        """What this rank's micro-batches of a step have to say, each weighted by what it counts for."""
        for scored, weight in scores:
            self._flops += scored.flops
            for name, value in scored.numbers.items():
                value = torch.as_tensor(value, dtype=torch.float64, device=bad.device)
                self.set({prefix + name: value * weight / total_weight}, bad)

    def set(self, numbers: Mapping[str, Tensor], bad: Tensor) -> None:
        """Numbers of the step as a whole, said by one rank."""
        for name, value in numbers.items():
            value = torch.where(bad, 0.0, value.detach().double())
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def end_step(self, bad: Tensor) -> None:
        """A step is over."""
        self._steps = 1 - bad if self._steps is None else self._steps + 1 - bad

    def take(self, ranks: Ranks) -> tuple[dict[str, float], float]:
        """The means over all ranks, loss first, and operations a second; then it begins anew. Waits."""
        names = list(self._sums)
        mine = torch.stack([self._sums[name] for name in names]).tolist() if names else []
        steps = float(self._steps) if self._steps is not None else 0.0
        every = ranks.gather((dict(zip(names, mine, strict=True)), self._flops))
        seconds = time.perf_counter() - self._since
        self.__init__()  # type: ignore[misc]
        found: dict[str, float] = {}
        for sums, _ in every:
            for name, value in sums.items():
                found[name] = found.get(name, 0.0) + value
        if not steps:
            return {}, 0.0
        ordered = sorted(found, key=lambda name: (name != "loss", name == "grad_norm"))
        return {name: found[name] / steps for name in ordered}, sum(flops for _, flops in every) / seconds


def memory_gb(device: torch.device) -> float:
    """The most that this process has had: on a GPU, of the GPU's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
