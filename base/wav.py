"""Sounds as wav files."""

import io
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autorecap.base.files import write_whole

_FULL_SCALE = 32_767


def write_wav(path: Path, samples_S: NDArray[np.float32], sample_rate_hz: int) -> None:
    """Write mono 16-bit PCM; samples beyond -1 to 1 are cut. Under its name there is the whole file or none.

    Raises OSError that names the file.
    """
    pcm = (samples_S.clip(-1, 1) * _FULL_SCALE).round().astype("<i2")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, sample_rate_hz, 0, "NONE", ""))
        file.writeframes(pcm.tobytes())
    write_whole(path, data.getvalue())
