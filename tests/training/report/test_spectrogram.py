"""Spectrograms for pages: a tone is bright where it is."""

import zlib

import numpy as np

from autorecap.training.report.spectrogram import spectrogram


def test_the_picture_of_a_tone_is_bright_at_its_frequency_and_dark_elsewhere() -> None:
    tone = np.sin(np.arange(16_000) * 2 * np.pi * 1_000 / 16_000).astype(np.float32)
    pixels = np.frombuffer(zlib.decompress(_part(spectrogram(tone, 16_000), b"IDAT")), np.uint8).reshape(72, 221)[:, 1:]
    mel = np.log1p(1_000 / 700) / np.log1p(8_000 / 700)
    assert abs(int(pixels.mean(axis=1).argmax()) - round((1 - mel) * 72)) <= 1
    assert pixels.max() == 255 and np.median(pixels) < 80
    silence = np.frombuffer(zlib.decompress(_part(spectrogram(tone * 0, 16_000), b"IDAT")), np.uint8)
    assert silence.max() == 0


def _part(png: bytes, name: bytes) -> bytes:
    at = png.index(name)
    return png[at + 4 : at + 4 + int.from_bytes(png[at - 4 : at], "big")]
