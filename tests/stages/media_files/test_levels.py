"""Levels are RMS and peak against full scale, to two decimals."""

import numpy as np
import pytest

from autorecap.stages.media_files.levels import levels


def test_levels_of_full_scale_half_scale_and_silence():
    square = np.where(np.arange(1000) % 2, 32767, -32768).astype("<i2")
    assert levels(square.tobytes()) == (0.0, 0.0)
    assert levels((square // 2).astype("<i2").tobytes()) == pytest.approx((-6.02, -6.02), abs=0.01)
    assert levels(bytes(200)) == (-120.0, -120.0)
