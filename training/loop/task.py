"""What the loop is given: a task, which says what a batch is and what its loss is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Batch(Protocol):
    """What a task makes of some positions; the loop itself looks at nothing but these names."""

    @property
    def names(self) -> Sequence[str]:
        """The samples in it, for people."""
        ...

    @property
    def unreadable(self) -> Sequence[str]:
        """The samples that should be in it and are not, each with the reason."""
        ...


class Scored(NamedTuple):
    """What a module makes of a batch: a mean loss, over how much it is a mean, and numbers to log.

    Tensors on the device are best: nobody waits for them before the next line of the log.
    """

    loss: Tensor
    weight: float | Tensor  # tokens, or whatever the loss is a mean of: parts of a batch are weighted by it
    numbers: Mapping[str, float | Tensor]
    flops: float = 0.0  # operations of this batch, forward and backward, where they are known


@dataclass(frozen=True)
class Player:
    """One of several sides of a task with adversaries, each of which steps on its own loss."""

    name: str
    module: nn.Module  # whose parameters it moves
    begins: int = 0  # the first step in which it plays


class Task(Protocol):
    """What is trained. `module(batch)` gives a `Scored`.

    A task with an attribute `players`, a sequence of `Player`, is called once for each of them, in that order, on the
    same batch, as `module(batch, player.name, step)`; the last one's loss is the run's. A task with an attribute
    `units`, a sequence of modules, can be sharded: see `sharding.shard`.
    """

    module: nn.Module

    def batch(self, positions: range) -> Any:
        """The samples at these global positions, a `Batch`: a pure function of them, called from several threads."""
        ...

    def to(self, batch: Any, device: torch.device) -> Any:
        """The batch on a device."""
        ...
