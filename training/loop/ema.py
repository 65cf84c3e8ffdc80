"""The moving average of the weights: what samples are made with, where a run asks for it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autorecap.training.loop.sharding import local


class Average:
    """One average per weight that learns, sharded as it is. Young averages forget faster: by (1 + n) / (10 + n)."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.tensors = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int, counts: Tensor) -> None:
        """`step`: from 0 on. `counts`: a number on the device, 0 where the step was skipped."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [local(tensor) for tensor in self.tensors.values()]
        changes = torch._foreach_sub([local(p.detach()) for p in self.parameters.values()], averages)
        torch._foreach_mul_(changes, (1 - decay) * counts)
        torch._foreach_add_(averages, changes)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the weights are the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, p in self.parameters.items():
            weight, average = local(p.detach()), local(self.tensors[name])
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)
