"""Spectrograms for pages: log-power over time and frequency as a PNG, made with NumPy and zlib alone."""

import itertools
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_FFT = 512
_WIDTH, _HEIGHT = 220, 72  # pixels
_RANGE_DB = 60.0  # below the loudest
_QUIET_DB = -20.0  # a sound that is nowhere louder stays dark; a tone of full scale has 42 dB
_KNEE_HZ = 700.0  # of the mel scale, from which on it is logarithmic
_COLOURS = ((8, 12, 32), (38, 42, 110), (104, 48, 140), (190, 64, 116), (240, 122, 74), (252, 216, 130))


def spectrogram(samples: NDArray[np.float32], rate: int) -> bytes:
    """Return a PNG of the sound: time to the right, frequency upwards on the mel scale. Silence is black."""
    samples = np.pad(samples, (0, max(0, _FFT - len(samples))))
    starts = np.linspace(0, len(samples) - _FFT, _WIDTH).astype(int)
    frames = np.stack([samples[start : start + _FFT] for start in starts]) * np.hanning(_FFT)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    top = rate / 2
    edges_hz = _KNEE_HZ * np.expm1(np.linspace(0, math.log1p(top / _KNEE_HZ), _HEIGHT + 1))
    edges = (edges_hz / top * (power.shape[1] - 1)).astype(int)
    rows = np.stack([power[:, low : max(low + 1, high)].mean(axis=1) for low, high in itertools.pairwise(edges)])
    level_db = 10 * np.log10(rows[::-1] + 1e-9)
    shade = np.clip((level_db - max(level_db.max(), _QUIET_DB)) / _RANGE_DB + 1, 0, 1)
    return _png((shade * 255).astype(np.uint8))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG of pixels that are shades of `_COLOURS`. shape (height, width)"""
    height, width = pixels.shape
    at = np.linspace(0, len(_COLOURS) - 1, 256)
    palette = np.stack(
        [np.interp(at, range(len(_COLOURS)), channel) for channel in zip(*_COLOURS, strict=True)], axis=1
    )
    rows = np.hstack([np.zeros((height, 1), np.uint8), pixels])  # each begins with its filter: none
    return (
        b"\x89PNG\r\n\x1a\n"
        + _part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))  # 8 bits, by palette
        + _part(b"PLTE", palette.astype(np.uint8).tobytes())
        + _part(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + _part(b"IEND", b"")
    )


def _part(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
