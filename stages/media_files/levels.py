"""Measures the levels of a sound: how loud it is on average, and at its loudest sample."""

import numpy as np

from autorecap.base.wav import from_pcm

_LOWEST_DBFS = -120.0
"""The level that is stored for digital silence, which has no logarithm; lower than 16 bits can hold."""


def levels(pcm: bytes) -> tuple[float, float]:
    """Return RMS and peak of 16-bit samples, in dB relative to full scale, to two decimals."""
    samples = from_pcm(pcm).astype(np.float64)
    if not samples.any():
        return _LOWEST_DBFS, _LOWEST_DBFS
    rms, peak = np.sqrt(np.mean(samples**2)), np.abs(samples).max()
    return round(float(20 * np.log10(rms)), 2), round(float(20 * np.log10(peak)), 2)
