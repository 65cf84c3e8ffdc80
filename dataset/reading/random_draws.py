"""Registry of random draws: who takes random numbers by (seed, purpose, position), and under which number.

A generator seeded by (seed, purpose, position) gives the same numbers in every run, process and thread, so a resumed
run draws what a run that never stopped would have drawn. The purpose keeps two uses at one position apart.

The numbers belong to the results: change one, and a training resumed from an older checkpoint draws something else. So
a number is never changed, and never given away again within its family.

`TrainingDraw` is the family of trainings on clips. Whoever draws nothing of what these draw may number purposes of its
own, as the demo does for its synthesised scenes (`demo/random_draws.py`).
"""

from enum import IntEnum, unique
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@unique
class TrainingDraw(IntEnum):
    """What is drawn in the training of a model on clips. The next free number is 10."""

    EXAMPLE = 1  # which caption and which piece of a clip, what metadata is withheld, what is mixed in
    # 2 was never used
    SPEC_AUGMENT = 3  # AutoCap: the masked stripes of a log-mel
    ORDER = 4  # the order of shards and clips; its position is (set, epoch, window)
    POSTERIOR = 5  # VAE, GenAu: the sample of the VAE's posterior
    NOISE = 6  # GenAu: the noise that the backbone predicts
    TIMESTEP = 7  # GenAu: how much noise
    DROPPED_CONDITION = 8  # GenAu: whether a clip loses its conditions, for guidance
    PIECE = 9  # vocoder: which piece of a clip


def numpy_generator(seed: int, purpose: IntEnum, *position: int) -> np.random.Generator:
    """Return the generator of one purpose at one position."""
    return np.random.default_rng([seed, int(purpose), *position])


def torch_generator(seed: int, purpose: IntEnum, position: int) -> "torch.Generator":
    """Return torch's generator of one purpose at one position; on the CPU, so that a GPU sees the same numbers."""
    import torch  # readers of datasets that draw with numpy alone need not wait for it

    (state,) = np.random.SeedSequence([seed, int(purpose), position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
