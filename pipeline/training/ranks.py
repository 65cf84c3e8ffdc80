"""The processes of one run: one alone, or several as torchrun starts them.

The loop needs three things of them: who am I, what do all have, and sums of gradients. Gradients are summed
in one piece after the backward pass, each rank's weighted by what it counted, so the sum is that of one process that
had the whole batch.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed as dist
from torch import nn

Value = TypeVar("Value")

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one another: rank 0 validates and writes checkpoints while the others stand."""


@dataclass(frozen=True)
class Ranks:
    """This process among the processes of the run."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those of this machine: which of its GPUs is ours

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def share(self, positions: range) -> range:
        """The positions of this rank: shares differ by one at most."""
        size = len(positions)
        return positions[size * self.rank // self.count : size * (self.rank + 1) // self.count]

    def gather(self, value: Value) -> list[Value]:
        """What every rank has, in the order of ranks."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum over all ranks. One that has none counts as zero."""
        if self.count == 1:
            return
        chosen = list(parameters)
        for p in chosen:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = torch.cat([p.grad.flatten() for p in chosen if p.grad is not None])
        dist.all_reduce(flat)
        for p, piece in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
            assert p.grad is not None
            p.grad.copy_(piece.reshape(p.shape))

    def agree(self, value: Value) -> Value:
        """What rank 0 has, on every rank."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Ranks()


@contextmanager
def ranks(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun has started (its environment says so), or this process alone.

    A launcher that has joined the processes already, as Ray Train does, parts them as well.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized() and dist.get_world_size() > 1:
        on_gpu = device.startswith("cuda")  # of which the launcher has chosen one
        local_rank = torch.cuda.current_device() if on_gpu else int(os.environ.get("LOCAL_RANK", "0"))
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank)
        return
    if count == 1:
        yield ALONE
        return
    found = Ranks(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        torch.cuda.set_device(found.local_rank)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield found
    finally:
        dist.destroy_process_group()
