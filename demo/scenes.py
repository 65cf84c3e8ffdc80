"""Scenes: clips of one synthesised sound or two, degraded as recordings are, and the texts about them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from autorecap.dataset.reading.random_draws import numpy_generator
from autorecap.demo import sentences
from autorecap.demo.random_draws import DemoDraw, generator_without_purpose
from autorecap.demo.sounds import KINDS, Wave, follow, mix, peak_normalise, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ

MIN_S, MAX_S = 1.0, 10.0  # of a clip
SEQUENCE_MIN_S, MIX_MIN_S = 4.0, 2.5  # the shortest clip with a sequence of sounds, and with a mixture
FIRST_SHARE = 0.35, 0.65  # of a sequence, that the first sound takes
BACKGROUND_DB = -7, -1  # of the second sound in a mixture, against the first
LEAD_S = 0.5  # a clip begins anywhere in the first half second of a sound


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip, and the sounds in it."""

    waveform: Wave  # 32 kHz
    kinds: tuple[str, ...]  # the louder or the earlier one first
    composition: str  # single | mix | sequence


def choose_scene(seed: int, index: int) -> tuple[tuple[str, ...], str, Generator]:
    """Return kinds and composition of a scene, and the generator that synthesises it."""
    rng = numpy_generator(seed, DemoDraw.SCENE, index)
    return *choose_kinds(index, rng), rng


def choose_kinds(
    index: int, rng: Generator, shares: tuple[float, float, float] = (0.5, 0.3, 0.2)
) -> tuple[tuple[str, ...], str]:
    """Return one kind of sound or two, and their composition. shares: of single, mix and sequence"""
    kind = KINDS[index % len(KINDS)]  # every kind equally often
    composition = str(rng.choice(["single", "mix", "sequence"], p=shares))
    if composition == "single":
        return (kind,), composition
    # Not two voices, which would be a dialogue: their names begin alike.
    other = str(rng.choice([k for k in KINDS if k != kind and k[:6] != kind[:6]]))
    return (kind, other), composition


def draw_scene(seed: int, index: int) -> Scene:
    """Return the scene with this index in the endless list of scenes of a seed."""
    kinds, composition, rng = choose_scene(seed, index)
    if composition == "sequence":
        total = rng.uniform(SEQUENCE_MIN_S, MAX_S)
        share = rng.uniform(*FIRST_SHARE)
        waveform = follow(_piece(kinds[0], total * share, rng), _piece(kinds[1], total * (1 - share), rng))
    else:
        seconds = draw_seconds(rng) if composition == "single" else rng.uniform(MIX_MIN_S, MAX_S)
        waveform = _piece(kinds[0], seconds, rng)
        if composition == "mix":
            waveform = mix(waveform, _piece(kinds[1], seconds, rng), background_db=rng.uniform(*BACKGROUND_DB))
    return Scene(waveform=degrade(waveform, rng), kinds=kinds, composition=composition)


def draw_seconds(rng: Generator) -> float:
    """Draw the length of a clip: a fifth fill the window, and half of the others last less than about three seconds."""
    return MAX_S if rng.random() < 0.2 else float(MIN_S * (MAX_S / MIN_S) ** rng.random())


def _piece(kind: str, seconds: float, rng: Generator) -> Wave:
    sound = synthesise(kind, seconds + LEAD_S, rng)
    start = round(rng.uniform(0, LEAD_S) * SAMPLE_RATE_HZ)
    return sound[start : start + round(seconds * SAMPLE_RATE_HZ)]


def degrade(x: Wave, rng: Generator) -> Wave:
    """Degrade a sound as microphones, codecs and uploads do: a low-pass, a noise floor, a low level in 16 bits."""
    if rng.random() < 0.4:
        x = low_pass(x, rng.uniform(5_000, 15_000))
    if rng.random() < 0.4:
        x = x + np.float32(10 ** (rng.uniform(-65, -38) / 20)) * rng.standard_normal(len(x), dtype=np.float32)
    peak = 10 ** (rng.uniform(-30, 0) / 20)
    return (np.round(peak_normalise(x, peak) * 32_767) / 32_768).astype(np.float32)


def low_pass(x: Wave, cutoff_hz: float) -> Wave:
    """Remove everything above the cut-off, as a lossy codec or a lower sample rate does."""
    size = 1 << (len(x) - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    spectrum[round(cutoff_hz / SAMPLE_RATE_HZ * size) :] = 0
    return np.fft.irfft(spectrum, size)[: len(x)].astype(np.float32)


def draw_texts(seed: int, position: int, kinds: tuple[str, ...], composition: str) -> tuple[str, str, str]:
    """Draw title, video caption and caption of a scene, others at every position."""
    rng = numpy_generator(seed, DemoDraw.TEXTS, position)
    return (
        sentences.title(kinds, rng),
        sentences.video_caption(rng),
        sentences.caption(kinds, composition, rng),
    )


def scene_at(seed: int, position: int, num_scenes: int) -> int:
    """Return the index of the scene at a position of the endless list: each once an epoch, in an order of its own."""
    epoch, place = divmod(position, num_scenes)
    return int(_permutation(seed, epoch, num_scenes)[place])


@lru_cache(maxsize=3)  # around the border of two epochs both are at work
def _permutation(seed: int, epoch: int, num_scenes: int) -> NDArray[np.int32]:
    order = np.arange(num_scenes, dtype=np.int32)
    generator_without_purpose(seed, epoch).shuffle(order)
    return order
