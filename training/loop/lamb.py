"""LAMB (You et al., 2020), the optimiser of GenAu (paper, appendix D.2): Adam whose steps are scaled to tensor norms.

For every tensor p with gradient g:

    m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2           without bias correction
    step = m / (sqrt(v) + eps) + weight_decay p
    p = p - lr * min(|p|, 10) / |step| * step                    the factor is 1 where either norm is 0

It works on plain tensors and on the DTensors of FSDP2. Of a sharded tensor, |p| and |step| are norms of the whole.

Like torch's fused optimisers it reads an attribute `found_inf`: a tensor on the device of the weights, 1 if the step
must change nothing, so nobody waits for the device. Gradients must be finite all the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor, Shard
from torch.optim import Optimizer

from autorecap.training.loop.sharding import local

MAX_NORM = 10.0  # a longer tensor's step grows no further
CHUNK = 2**28  # values handled at once: bounds what a step needs beside the state to a few GB
_CPU_CHUNK = 2**20  # on a CPU the cache matters more than the number of calls: 1.8 times as fast as all at once


class Lamb(Optimizer):
    """LAMB with the paper's settings as defaults.

    The official code decays weights by 0.01 where the paper has 0.1; both decay norms and biases too, as one group of
    parameters does. Parameters without a gradient stay as they are. Raises ValueError for settings out of range.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 5e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        for name, value, good in (
            ("lr", lr, lr >= 0),
            ("betas", betas, all(0 <= beta < 1 for beta in betas)),
            ("eps", eps, eps > 0),
            ("weight_decay", weight_decay, weight_decay >= 0),
        ):
            if not good:
                raise ValueError(f"lamb: {name} is {value}: lr and weight_decay from 0, betas from 0 to 1, eps above 0")
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in _alike(p for p in group["params"] if p.grad is not None):
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters that lie on one device, in one precision, and are sharded alike."""
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        weights = [local(p) for p in parameters]
        gradients = [local(p.grad) for p in parameters if p.grad is not None]
        means = [local(self.state[p]["exp_avg"]) for p in parameters]
        squares = [local(self.state[p]["exp_avg_sq"]) for p in parameters]
        beta1, beta2 = group["betas"]

        if self.found_inf is None:
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        else:  # by factors on the device: 1, or 0 if nothing may change
            counts = 1 - self.found_inf.to(weights[0].device, torch.float32)
            changes = torch._foreach_sub(gradients, means)
            torch._foreach_mul_(changes, (1 - beta1) * counts)
            torch._foreach_add_(means, changes)
            changes = torch._foreach_mul(gradients, gradients)
            torch._foreach_sub_(changes, squares)
            torch._foreach_mul_(changes, (1 - beta2) * counts)
            torch._foreach_add_(squares, changes)
            del changes
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        steps = torch._foreach_div(means, roots)
        del roots
        if group["weight_decay"]:
            torch._foreach_add_(steps, weights, alpha=group["weight_decay"])

        weight_norms, step_norms = _norms(parameters[0], weights, steps)
        known = (weight_norms > 0) & (step_norms > 0)
        trust = torch.where(known, weight_norms.clamp(max=MAX_NORM) / step_norms, 1.0)
        if self.found_inf is not None:
            trust = trust * (1 - self.found_inf.to(trust.device, trust.dtype))
        torch._foreach_mul_(steps, list((-group["lr"] * trust).to(weights[0].dtype).unbind()))
        torch._foreach_add_(weights, steps)


def _norms(like: Tensor, weights: Sequence[Tensor], steps: Sequence[Tensor]) -> Tensor:
    """Return the norms of the whole tensors whose local shards these are. shape (2, tensors)"""
    norms = torch.stack(list(torch._foreach_norm([*weights, *steps], dtype=torch.float32))).view(2, -1)
    if isinstance(like, DTensor):
        squares = norms.square()
        for dim, placement in enumerate(like.placements):
            if isinstance(placement, Shard):  # a replica has the whole already
                dist.all_reduce(squares, group=like.device_mesh.get_group(dim))
        norms = squares.sqrt()
    return norms


def _alike(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield lists of parameters that can be updated together, none longer than a chunk unless one tensor is."""
    kinds = defaultdict(list)
    for p in parameters:
        layout = (p.device_mesh, p.placements) if isinstance(p, DTensor) else None
        kinds[p.device, p.dtype, layout].append(p)
    for (device, *_), kind in kinds.items():
        limit = _CPU_CHUNK if device.type == "cpu" else CHUNK
        chunk: list[Tensor] = []
        size = 0
        for p in kind:
            if chunk and size + p.numel() > limit:  # of the whole tensor: ranks must come to the same lists
                yield chunk
                chunk, size = [], 0
            chunk.append(p)
            size += p.numel()
        yield chunk
