"""Wav files are written whole or not at all."""

import wave
from pathlib import Path

import numpy as np
import pytest

from autorecap.base.wav import write_wav


def test_samples_come_back_to_16_bits_and_are_cut_at_full_scale(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.0, 0.5, -1.0, 2.0, -3.0], np.float32), 16_000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [0, 16_384, -32_767, 32_767, -32_767]
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as error:
        write_wav(tmp_path / "gone" / "a.wav", np.zeros(3, np.float32), 16_000)
    assert error.value.filename == str(tmp_path / "gone" / "a.wav")
