"""Optimisers and the schedule of the learning rate.

All optimisers read `found_inf`, a number on the device: if it is 1, `step` changes nothing (torch's GradScaler uses
the same of torch's fused optimisers).
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.training.loop.lamb import Lamb

OPTIMIZERS = ("adam", "adamw", "lamb")
WARMUP_FROM = 1 / 500  # learning rate of the first step as a share of the peak; as in the released GenAu


def make_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """Return an optimiser of the parameters that are trained.

    `adam` adds the decay to the gradient of every parameter, as AutoCap was trained; `adamw` shrinks matrices; `lamb`,
    as GenAu was trained, decays every parameter and scales the step of each to its norm.
    """
    trained = [p for p in parameters if p.requires_grad]
    if name == "adam":
        return torch.optim.Adam(trained, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
    if name == "lamb":
        return Lamb(trained, lr=lr, betas=betas, weight_decay=weight_decay)
    return torch.optim.AdamW(parameter_groups(trained, weight_decay), lr=lr, betas=betas, fused=True)


def fill_state(optimizer: torch.optim.Optimizer) -> None:
    """Create the state that the first step would create, so that its memory is taken and a checkpoint can be read
    into it."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state[p]
            if not state:
                if not isinstance(optimizer, Lamb):
                    state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)


def parameter_groups(trained: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups of parameters: matrices, which decay, and norms, biases and vectors, which do not."""
    chosen = list(trained)
    matrices: list[Tensor] = [p for p in chosen if p.ndim >= 2]
    rest: list[Tensor] = [p for p in chosen if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate(step: int, *, peak: float, steps: int, warmup_steps: int, min_share: float) -> float:
    """Return the rate of a step: linear warm-up from `WARMUP_FROM`, then a cosine down to `min_share` of the peak; both
    as released."""
    if step < warmup_steps:
        return peak * (WARMUP_FROM + (1 - WARMUP_FROM) * step / warmup_steps)
    done = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return peak * (min_share + (1 - min_share) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)
