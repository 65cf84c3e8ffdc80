"""Random numbers that depend on the seed, the position of a sample and what they are for, and on nothing else."""

import numpy as np
import torch

POSTERIOR, NOISE, TIMESTEP, DROP, SEGMENT = 5, 6, 7, 8, 9
"""Purposes. 1 to 4 are those of `examples`, `autocap_task` and `order`."""


def generator(seed: int, purpose: int, position: int) -> torch.Generator:
    """On the CPU, so that a GPU sees the same numbers."""
    (state,) = np.random.SeedSequence([seed, purpose, position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
