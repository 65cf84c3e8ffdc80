"""Bank of synthesised sounds as log-mels, from which scenes are cut, joined, mixed and disturbed anew for every step.

The powers of independent sounds add up, so log-mels can be mixed without their waveforms: a scene costs a fraction of a
synthesised one, and none comes twice.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from autorecap.dataset.reading.random_draws import DemoDraw, numpy_generator
from autorecap.demo import scenes
from autorecap.demo.sounds import KINDS, loudness, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap.model import AudioFeatures, AutoCap
from autorecap.training.autocap.augment import disturb

SHARES = (0.3, 0.4, 0.3)  # of single, mix, sequence: more of two sounds than evaluation has, since they are harder
FRAMES_PER_S = 100
_DB = 10 / np.log(10)


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
            total_s = rng.uniform(4.0, self.window_s)
            first_s = total_s * rng.uniform(0.35, 0.65)
            first, second = self._piece(sounds[0], first_s, rng), self._piece(sounds[1], total_s - first_s, rng)
            # As loud as the first.
            second = [mel + self._loudness_db[sounds[0]] - self._loudness_db[sounds[1]] for mel in second]
            mels = [torch.cat(pair) for pair in zip(first, second, strict=True)]
            spans = [(0.0, first_s), (first_s, total_s)]
        else:
            total_s = scenes.draw_seconds(rng) if composition == "single" else rng.uniform(2.5, self.window_s)
            mels = self._piece(sounds[0], total_s, rng)
            if composition == "mix":
                gain_db = rng.uniform(-7, -1) + self._loudness_db[sounds[0]] - self._loudness_db[sounds[1]]
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
