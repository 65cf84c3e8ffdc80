"""Registry of random draws: who takes random numbers by (seed, purpose, position), and under which number.

A generator seeded by (seed, purpose, position) gives the same numbers in every run, process and thread, so a resumed
run draws what a run that never stopped would have drawn. The purpose keeps two uses at one position apart.

The numbers belong to the results: change one, and a training resumed from an older checkpoint, or the recipe of the
bundled captioner, draws something else. So a number is never changed, and never given away again within its family.

The two families both use 1, 5 and 6, and keep them for that reason. Their draws never meet: a training of a model reads
clips and draws by `TrainingDraw` alone, and the demo's own tasks read no clips and draw by `DemoDraw` alone.
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


@unique
class DemoDraw(IntEnum):
    """What is drawn for the synthesised scenes of the demo's captioner. The next free number is 7."""

    SCENE = 1  # a scene as a waveform: its sounds, their lengths, what the recording does to them
    TEXTS = 2  # title, video caption and caption of a scene
    BANK_SOUND = 5  # one sound of the bank
    BANK_SCENE = 6  # a scene put together from sounds of the bank


Draw = TrainingDraw | DemoDraw


def numpy_generator(seed: int, purpose: Draw, *position: int) -> np.random.Generator:
    """Return the generator of one purpose at one position."""
    return np.random.default_rng([seed, int(purpose), *position])


def torch_generator(seed: int, purpose: Draw, position: int) -> "torch.Generator":
    """Return torch's generator of one purpose at one position; on the CPU, so that a GPU sees the same numbers."""
    import torch  # readers of datasets that draw with numpy alone need not wait for it

    (state,) = np.random.SeedSequence([seed, int(purpose), position]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)


def generator_without_purpose(seed: int, number: int) -> np.random.Generator:
    """Return the generator of (seed, number), for two uses in the demo that are older than purposes.

    They are the order of the demo's scenes in an epoch, and the clips that its captioner is judged by. numpy fills a
    short seed up with zeros, so this is the stream of purpose `number` at position 0: nothing new may be drawn by it.
    """
    return np.random.default_rng([seed, number])
