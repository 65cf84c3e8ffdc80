"""The processes of one run: one alone, or several as torchrun starts them.

The loop needs three things of them: the number of this process, values that all share, and sums of gradients.
Gradients are summed after the backward pass, each weighted by what its loss is a mean of, so the sum is that of one
process with the whole batch. torch's DistributedDataParallel would average over ranks, which is wrong if ranks have
unequal shares or one has no clip that can be read; and it would wait for gradients that never come. The price is that
the exchange is not hidden behind the backward pass; that of `fsdp` is.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

Value = TypeVar("Value")

BUCKET = 2**26  # gradients summed at once: 256 MB of fp32

PATIENCE = timedelta(hours=2)
"""How long ranks wait for one another: rank 0 validates and writes checkpoints while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """This process, by its rank among the processes of the run, and its exchanges with them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those of this machine: which of its GPUs is ours

    @property
    def first(self) -> bool:
        """Whether this is the main process, which prints and writes files."""
        return self.rank == 0

    def share(self, positions: range) -> range:
        """Return the part of the positions that this rank works on: parts differ in size by one at most."""
        size = len(positions)
        return positions[size * self.rank // self.count : size * (self.rank + 1) // self.count]

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all ranks, in the order of ranks."""
        values = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(values, value)
        return values

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum the tensor over all ranks in place, and return it."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all ranks. A missing gradient counts as zero."""
        if self.count == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if bucket and size + p.numel() > BUCKET:
                self._add(bucket)
                bucket, size = [], 0
            bucket.append(p.grad)
            size += p.numel()
        if bucket:
            self._add(bucket)

    def _add(self, gradients: list[Tensor]) -> None:
        flat = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        pieces = flat.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(pieces, gradients, strict=True)])

    def agree(self, value: Value) -> Value:
        """Return rank 0's value on every rank."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Ranks()


@contextmanager
def join_processes(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started, as its environment says; a process alone gets `ALONE`.

    A launcher that has joined the processes already also separates them.
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
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        torch.cuda.set_device(ranks.local_rank)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
