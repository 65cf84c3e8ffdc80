"""Augmentation of sounds, so that a captioner relies on no single detail.

Every function that draws takes a generator, which the caller makes from (seed, purpose, position): the same clip at the
same position is changed in the same way in every run. Shape suffixes: B batch, T frames, M mel bands, S samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from autorecap.base.settings import Section, setting
from autorecap.models.audio import PEAK, PEAK_EPS


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig(Section, name="task.spec_augment"):
    """Settings of SpecAugment (Park et al., 2019): stripes of the log-mel that are masked. Widths as released."""

    time_stripes: int = setting(2, "Stripes over time; 0: none.", results=True, ge=0)
    time_width: int = setting(64, "Stripes over time are shorter than this many frames of 10 ms.", results=True, ge=1)
    mel_stripes: int = setting(2, "Stripes over the mel bands; 0: none.", results=True, ge=0)
    mel_width: int = setting(8, "Stripes over mel bands are narrower than this many bands.", results=True, ge=1)


def draw_stripes(config: SpecAugmentConfig, num_frames: int, num_mels: int, rng: Generator) -> Tensor:
    """Draw the stripes of one log-mel: True where masked. shape (T + M,): frames first, then bands"""
    masked = np.zeros(num_frames + num_mels, dtype=bool)
    for count, width, first, size in (
        (config.time_stripes, config.time_width, 0, num_frames),
        (config.mel_stripes, config.mel_width, num_frames, num_mels),
    ):
        for _ in range(count):
            length = int(rng.integers(0, min(width, size)))
            start = first + int(rng.integers(0, size - length))
            masked[start : start + length] = True
    return torch.from_numpy(masked)


def mask_stripes(mel_BTM: Tensor, stripes_BX: Tensor, fill_M: Tensor) -> Tensor:
    """Return the log-mel with `fill_M` where it is masked. Stripes of shape (B, T + M): see `draw_stripes`."""
    num_frames = mel_BTM.shape[1]
    masked_BTM = stripes_BX[:, :num_frames, None] | stripes_BX[:, None, num_frames:]
    return torch.where(masked_BTM, fill_M, mel_BTM)


def mix_prepared(x_S: Tensor, other_S: Tensor, share: float) -> Tensor:
    """Mix two prepared waveforms at the peak that the model expects. share: of the mix that is the other waveform"""
    mixed_S = (1 - share) * x_S + share * other_S
    return mixed_S / (mixed_S.abs().max() + PEAK_EPS) * PEAK
