"""Bank of synthesised sounds as log-mels, from which scenes are cut, joined, mixed and disturbed anew for every step.

The powers of independent sounds add up, so log-mels can be mixed without their waveforms: a scene costs a fraction of a
synthesised one, and none comes twice.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from autorecap.dataset.reading.random_draws import numpy_generator
from autorecap.demo import scenes
from autorecap.demo.random_draws import DemoDraw
from autorecap.demo.sounds import KINDS, loudness, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap.model import AudioFeatures, AutoCap

SHARES = (0.3, 0.4, 0.3)  # of single, mix, sequence: more of two sounds than evaluation has, since they are harder
FRAMES_PER_S = 100
_DB = 10 / np.log(10)

# How recordings differ from clean sounds. Ranges are (low, high), and those of whole numbers leave `high` out.
_SOME_P = 0.3  # probability of the noise floor, of the low-pass, and of the masked band
_GAIN_DB = -8, 3
_NOISE_DB = -60, -28  # the noise floor, against the loudest bin
_PASSED_SHARE = 5 / 8  # of the bands, that every low-pass lets through
_BAND_WIDTH = 1, 7  # of the masked band, in mel bands
_NUM_STRETCHES = 0, 3  # of masked time
_STRETCH_FRAMES = 5, 50  # length of one


class BankScene(NamedTuple):
    """A scene as log-mels, and the sounds in it."""

    features: AudioFeatures  # log-mels, each of shape (1, T, M)
    kinds: tuple[str, ...]  # the louder or the earlier one first
    composition: str
    spans: tuple[tuple[float, float], ...]  # of each kind, as shares of the window


class SoundBank:
    """Holds `per_kind` sounds of each kind, as log-mels that fill the window, and draws scenes of them."""

    def __init__(self, model: AutoCap, per_kind: int, seed: int, threads: int) -> None:
        self.seed = seed
        self.window_s = model.config.window_s
        self.floor_db = 10 * float(np.log10(model.config.htsat.mel.min_power))
        self._per_kind = per_kind
        with ThreadPoolExecutor(threads) as pool, torch.no_grad():
            sounds = list(pool.map(lambda index: self._sound(model, index), range(per_kind * len(KINDS))))
        self._mels = AudioFeatures(*(torch.stack(mels) for mels in zip(*(mels for mels, _ in sounds), strict=True)))
        self._loudness_db = [level for _, level in sounds]

    def _sound(self, model: AutoCap, index: int) -> tuple[tuple[Tensor, ...], float]:
        """Return log-mels in half precision, each of shape (T, M), and the loudness of the sound in dB."""
        rng = numpy_generator(self.seed, DemoDraw.BANK_SOUND, index)
        lead = round(rng.uniform(0, scenes.LEAD_S) * SAMPLE_RATE_HZ)
        sound = synthesise(KINDS[index % len(KINDS)], self.window_s + scenes.LEAD_S, rng)
        with torch.no_grad():
            x_BS = model.prepare([sound[lead : lead + round(self.window_s * SAMPLE_RATE_HZ)]], SAMPLE_RATE_HZ)
            mels = tuple(mel[0].half() for mel in model.features(x_BS))
        return mels, 20 * float(np.log10(loudness(x_BS[0].numpy())))

    def draw(self, position: int) -> BankScene:
        """Return the scene at a position of an endless list, as `scenes.draw_scene` but more often with two sounds."""
        rng = numpy_generator(self.seed, DemoDraw.BANK_SCENE, position)
        kinds, composition = scenes.choose_kinds(position, rng, SHARES)
        sounds = [KINDS.index(kind) + len(KINDS) * int(rng.integers(self._per_kind)) for kind in kinds]
        if composition == "sequence":
            total_s = rng.uniform(scenes.SEQUENCE_MIN_S, self.window_s)
            first_s = total_s * rng.uniform(*scenes.FIRST_SHARE)
            first, second = self._piece(sounds[0], first_s, rng), self._piece(sounds[1], total_s - first_s, rng)
            # As loud as the first.
            second = [mel + self._loudness_db[sounds[0]] - self._loudness_db[sounds[1]] for mel in second]
            mels = [torch.cat(pair) for pair in zip(first, second, strict=True)]
            spans = [(0.0, first_s), (first_s, total_s)]
        else:
            total_s = (
                scenes.draw_seconds(rng) if composition == "single" else rng.uniform(scenes.MIX_MIN_S, self.window_s)
            )
            mels = self._piece(sounds[0], total_s, rng)
            if composition == "mix":
                gain_db = (
                    rng.uniform(*scenes.BACKGROUND_DB) + self._loudness_db[sounds[0]] - self._loudness_db[sounds[1]]
                )
                other = self._piece(sounds[1], total_s, rng)
                mels = [_sum(a, b + gain_db) for a, b in zip(mels, other, strict=True)]
            spans = [(0.0, total_s)] * len(kinds)
        return BankScene(
            AudioFeatures(*disturb([self._padded(mel) for mel in mels], self.floor_db, rng)),
            kinds,
            composition,
            tuple((start / self.window_s, end / self.window_s) for start, end in spans),
        )

    def _piece(self, sound: int, seconds: float, rng: Generator) -> list[Tensor]:
        """Return log-mels of a stretch that begins anywhere in a sound, each of shape (T, M)."""
        num_frames = self._mels.htsat.shape[1]
        length = min(round(seconds * FRAMES_PER_S), num_frames)
        start = int(rng.integers(num_frames - length + 1))
        return [mel[sound, start : start + length].float() for mel in self._mels]

    def _padded(self, mel_TM: Tensor) -> Tensor:
        """Fill up with silence to the length of the window. shape (T, M) -> (1, T of the window, M)"""
        out = torch.full((1, *self._mels.htsat.shape[1:]), self.floor_db)
        out[0, : len(mel_TM)] = mel_TM[: out.shape[1]]
        return out


def _sum(a_db: Tensor, b_db: Tensor) -> Tensor:
    """Return the sum of two powers in decibels."""
    sum_db: Tensor = torch.logaddexp(a_db / _DB, b_db / _DB) * _DB
    return sum_db


def disturb(mels: Sequence[Tensor], floor_db: float, rng: Generator) -> list[Tensor]:
    """Disturb log-mels, each of shape (1, T, M), in the same way: level, a noise floor, a low-pass, a masked band,
    masked stretches of time.

    These are differences between recordings, for models that learn from clean synthesised sounds. All log-mels must
    have equal shapes.
    """
    num_frames, num_bands = mels[0].shape[1:]
    gain_db = rng.uniform(*_GAIN_DB)
    noise_db = rng.uniform(*_NOISE_DB) if rng.random() < _SOME_P else -np.inf
    top = rng.integers(int(num_bands * _PASSED_SHARE), num_bands) if rng.random() < _SOME_P else num_bands
    band = (rng.integers(0, num_bands), rng.integers(*_BAND_WIDTH)) if rng.random() < _SOME_P else (0, 0)
    stretches = [
        (rng.integers(0, num_frames), rng.integers(*_STRETCH_FRAMES)) for _ in range(rng.integers(*_NUM_STRETCHES))
    ]
    out = []
    for mel in mels:
        x = mel + gain_db
        if np.isfinite(noise_db):
            x = torch.logaddexp(x * (np.log(10) / 10), (x.max() + noise_db) * (np.log(10) / 10)) * (10 / np.log(10))
        x[:, :, top:] = floor_db
        x[:, :, band[0] : band[0] + band[1]] = floor_db
        for start, length in stretches:
            x[:, start : start + length] = floor_db
        out.append(x.clamp(min=floor_db))
    return out
