"""Task: the interface between a model and the loop. It makes batches and computes losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Batch(Protocol):
    """The samples of some positions. The loop itself reads only these two attributes."""

    @property
    def names(self) -> Sequence[str]:
        """Names of the samples in the batch, for messages."""
        ...

    @property
    def unreadable(self) -> Sequence[str]:
        """Samples that are missing because they cannot be read, each with the reason."""
        ...


class Scored(NamedTuple):
    """The result of a module on a batch: a mean loss, what it is a mean of, and numbers to log.

    Tensors on the device are best: nothing waits for them before the next line of the log.
    """

    loss: Tensor
    weight: float | Tensor
    """Number of tokens, clips or frames that the loss is a mean of: micro-batches are weighted by it."""
    numbers: Mapping[str, float | Tensor]
    flops: float = 0.0  # operations of this batch, forward and backward; 0: unknown


@dataclass(frozen=True)
class Player:
    """One side of a task with adversaries, such as a discriminator: a module that steps on a loss of its own."""

    name: str
    module: nn.Module  # whose parameters it updates
    begins: int = 0  # the first step in which it plays


class Task(Protocol):
    """Interface of what the loop trains: `module(batch)` returns a `Scored`.

    If a task has an attribute `players`, a sequence of `Player`, the loop calls `module(batch, player.name, step)` for
    each of them in that order on the same batch; the last player's loss is the run's. If it has an attribute `units`, a
    sequence of modules, it can be sharded: see `sharding.shard`.
    """

    module: nn.Module

    def batch(self, positions: range) -> Batch:
        """Return the batch at these positions of the run: a pure function of them, called from several threads."""
        ...

    def to(self, batch: Any, device: torch.device) -> Any:
        """Return the batch on a device."""
        ...
