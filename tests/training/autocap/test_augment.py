"""Augmentation of sounds: stripes and mixtures are what the settings say."""

import numpy as np
import pytest
import torch

from autorecap.training.autocap.augment import SpecAugmentConfig, draw_stripes, mask_stripes, mix_prepared


def test_stripes_are_as_many_and_as_wide_as_told() -> None:
    rng = np.random.default_rng(0)
    widest = [draw_stripes(SpecAugmentConfig(time_stripes=1, mel_stripes=1), 1_001, 64, rng) for _ in range(500)]
    frames, bands = [int(s[:1_001].sum()) for s in widest], [int(s[1_001:].sum()) for s in widest]
    assert (min(frames), max(frames), min(bands), max(bands)) == (0, 63, 0, 7)
    none = draw_stripes(SpecAugmentConfig(time_stripes=0, mel_stripes=0), 1_001, 64, rng)
    mel = torch.randn(1, 1_001, 64)
    assert torch.equal(mask_stripes(mel, none[None], torch.zeros(64)), mel)


def test_two_sounds_become_one_at_the_level_that_the_model_expects() -> None:
    a, b = torch.zeros(100), torch.zeros(100)
    a[:50], b[40:] = 0.5, -0.5
    mixed = mix_prepared(a, b, 0.25)
    assert float(mixed.abs().max()) == pytest.approx(0.5)
    assert float(mixed[0] / mixed[90]) == pytest.approx(-3.0)
