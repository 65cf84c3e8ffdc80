"""Registry of the demo's random draws: what its synthesised scenes draw by (seed, purpose, position).

Part of `dataset/reading/random_draws.py`, whose rules hold here too: a number is never changed or given away again, or
the recipe of the bundled captioner draws something else. The demo's tasks read no clips, so their draws never meet
those of `TrainingDraw`, although 1, 5 and 6 stand in both.
"""

from enum import IntEnum, unique

import numpy as np


@unique
class DemoDraw(IntEnum):
    """What is drawn for the synthesised scenes of the demo's captioner. The next free number is 7."""

    SCENE = 1  # a scene as a waveform: its sounds, their lengths, what the recording does to them
    TEXTS = 2  # title, video caption and caption of a scene
    BANK_SOUND = 5  # one sound of the bank
    BANK_SCENE = 6  # a scene put together from sounds of the bank


def generator_without_purpose(seed: int, number: int) -> np.random.Generator:
    """Return the generator of (seed, number), by which the demo draws two things and nothing new may be drawn.

    They are the order of the demo's scenes in an epoch, and the clips that its captioner is judged by. numpy fills a
    short seed up with zeros, so this is the stream of purpose `number` at position 0.
    """
    return np.random.default_rng([seed, number])
