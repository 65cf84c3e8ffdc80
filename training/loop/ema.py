"""Exponential moving average of the weights, which validation, samples and the saved model use if a run keeps it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autorecap.training.loop.sharding import local


class Average:
    """Averages of the trained weights, sharded as they are. Young averages forget faster: their decay is
    (1 + step) / (10 + step) until that is more than `decay`."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.tensors = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int, counts: Tensor) -> None:
        """Move the averages towards the weights, at a step from 0 on.

        counts: a number on the device, 0 if the step was skipped, else 1
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [local(tensor) for tensor in self.tensors.values()]
        changes = torch._foreach_sub([local(p.detach()) for p in self.parameters.values()], averages)
        torch._foreach_mul_(changes, (1 - decay) * counts)
        torch._foreach_add_(averages, changes)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averages as its weights."""
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
