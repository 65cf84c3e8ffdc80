"""Reads and writes sounds as 16-bit PCM, and as wav files of it."""

import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autorecap.base.files import write_whole

FULL_SCALE = 32_768
"""The 16-bit sample that stands for 1. The lowest is its negative; the highest is one less."""


def from_pcm(pcm: bytes) -> NDArray[np.float32]:
    """Return 16-bit samples as numbers from -1 to 1, exactly. shape (S,)"""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)


def read_wav(data: bytes) -> tuple[NDArray[np.float32], int]:
    """Return the first channel of 16-bit PCM, shape (S,), and its rate in Hz. Raises ValueError for other files."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            if file.getsampwidth() != 2:
                raise ValueError("no 16-bit PCM")
            return from_pcm(file.readframes(file.getnframes()))[:: file.getnchannels()], file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(str(error)) from error


def write_wav(path: Path, samples_S: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono 16-bit PCM; samples beyond -1 to 1 are cut. Under its name there is the whole file or none.

    Raises OSError that names the file.
    """
    pcm = (samples_S.clip(-1, 1) * (FULL_SCALE - 1)).round().astype("<i2")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, sample_rate_hz, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    write_whole(path, data.getvalue())
