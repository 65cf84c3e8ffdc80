"""Wav files are written whole or not at all, and read to the last bit."""

import wave
from pathlib import Path

import numpy as np
import pytest

from autorecap.base.wav import from_pcm, read_wav, write_wav


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


def test_the_first_channel_is_read_and_every_16_bit_sample_is_exact(tmp_path: Path) -> None:
    pcm = np.arange(-32_768, 32_768).astype("<i2")
    assert np.array_equal(from_pcm(pcm.tobytes()).astype(np.float64) * 32_768, np.arange(-32_768, 32_768))
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.stack([pcm, -pcm], axis=1).tobytes())
    samples, rate = read_wav((tmp_path / "a.wav").read_bytes())
    assert rate == 16_000 and np.array_equal(samples, from_pcm(pcm.tobytes()))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not a sound at all", b"RIFF\x24\0\0\0WAVEfmt "])
def test_what_is_no_wav_is_said(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_wav(data)
