"""Building blocks of synthesised sounds: noise, filters, random curves, envelopes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Signal = NDArray[np.floating[Any]]
"""Samples, frequencies or levels in 32 or 64 bits."""

SAMPLE_RATE_HZ = 32_000
NYQUIST_HZ = SAMPLE_RATE_HZ / 2


def times_s(num_samples: int) -> Signal:
    """Return the time of every sample in seconds, in fp32."""
    return np.arange(num_samples, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)


def fft_size(num_samples: int) -> int:
    """Return a size from `num_samples` on for which Fourier transforms are fast: one with small factors."""
    power = 1 << max(num_samples - 1, 1).bit_length()
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= num_samples)


def noise(num_samples: int, rng: Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Return Gaussian noise of unit RMS with the spectrum `gain(hz)`."""
    size = fft_size(num_samples)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    spectrum = rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz))
    x = np.fft.irfft(spectrum * gain(hz), size)[:num_samples]
    normalised: Signal = x / (np.sqrt(np.mean(np.square(x))) + 1e-12)
    return normalised


def band_pass(low_hz: float, high_hz: float, order: float = 4) -> Callable[[Signal], Signal]:
    """Return the gain of a band-pass with Butterworth-like slopes, as a function of frequencies."""

    def gain(hz: Signal) -> Signal:
        hz = np.maximum(hz, 1.0)
        levels: Signal = 1 / np.sqrt((1 + (low_hz / hz) ** (2 * order)) * (1 + (hz / high_hz) ** (2 * order)))
        return levels

    return gain


def resonant_gain(hz: Signal, centre_hz: float, width_hz: float) -> Signal:
    """Return the gain of a resonance at these frequencies: 1 at its centre."""
    levels: Signal = 1 / np.sqrt(1 + ((hz - centre_hz) / (width_hz / 2)) ** 2)
    return levels


def wander(num_samples: int, rng: Generator, points_per_s: float, low: float, high: float) -> Signal:
    """Return a smooth random curve between `low` and `high`."""
    num_points = max(round(num_samples / SAMPLE_RATE_HZ * points_per_s), 1) + 3
    points = rng.uniform(low, high, num_points)
    at = rng.uniform(0, 1) + np.arange(num_samples) * (points_per_s / SAMPLE_RATE_HZ)
    i = at.astype(np.int64)
    blend = (1 - np.cos(np.pi * (at - i))) / 2
    before, after = points[np.minimum(i, num_points - 1)], points[np.minimum(i + 1, num_points - 1)]
    curve: Signal = before * (1 - blend) + after * blend
    return curve


def add_at(out: Signal, sound: Signal, start: int) -> None:
    """Add a short sound to `out` from the sample `start` on, cut at the end of `out`."""
    if start >= len(out):
        return
    end = min(start + len(sound), len(out))
    out[start:end] += sound[: end - start]


def attack_decay(num_samples: int, attack_s: float, decay_s: float) -> Signal:
    """Return an envelope that rises in a straight line and falls exponentially."""
    t = times_s(num_samples)
    envelope: Signal = np.minimum(t / attack_s, 1) * np.exp(-np.maximum(t - attack_s, 0) / decay_s)
    return envelope


def phase_of(hz: Signal) -> Signal:
    """Return the phase of a tone whose frequency changes, in radians."""
    return 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ
