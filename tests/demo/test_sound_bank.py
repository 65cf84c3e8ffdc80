"""Sounds of the bank are disturbed so that both encoders hear the same."""

import numpy as np
import torch

from autorecap.demo.sound_bank import disturb


def test_disturbances_keep_shape_and_floor_and_are_the_same_for_both_encoders() -> None:
    mel = torch.randn(1, 1_001, 64) * 20
    for seed in range(20):
        a, b = disturb([mel, mel.clone()], -40.0, np.random.default_rng(seed))
        assert torch.equal(a, b)
        assert a.shape == mel.shape
        assert bool(torch.isfinite(a).all())
        assert a.min() >= -40.0
