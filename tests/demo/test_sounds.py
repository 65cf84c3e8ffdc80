"""The synthesised sounds, mixtures and sequences of them.

Also proves demo/synthesis.py, their building blocks.
"""

import numpy as np
import pytest

from autorecap.demo.sounds import KINDS, follow, mix, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_a_function_of_its_seed(kind: str) -> None:
    sound = synthesise(kind, 2.0, rng(1))
    assert sound.dtype == np.float32
    assert sound.shape == (2 * SAMPLE_RATE_HZ,)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() == pytest.approx(0.8, abs=1e-4)
    assert np.array_equal(sound, synthesise(kind, 2.0, rng(1)))
    assert not np.allclose(sound, synthesise(kind, 2.0, rng(2)), atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_no_second_of_a_sound_is_silent(kind: str) -> None:
    for seed in range(4):
        sound = synthesise(kind, 6.0, rng(seed))
        peaks = np.abs(sound.reshape(6, -1)).max(axis=1)
        assert peaks.min() > 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.01, 0.37, 1.0])
def test_sounds_may_be_short(kind: str, seconds: float) -> None:
    assert len(synthesise(kind, seconds, rng(0))) == round(seconds * SAMPLE_RATE_HZ)


def test_an_unknown_sound_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="choose one of rain, wind"):
        synthesise("thunder", 1.0, rng(0))
    with pytest.raises(ValueError, match="no samples"):
        synthesise("rain", 0.0, rng(0))


def test_a_mix_holds_both_and_a_sequence_one_after_the_other() -> None:
    low, high = (
        np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32) for hz in (500, 4_000)
    )

    def level(x: np.ndarray, hz: int) -> float:
        return float(np.abs(np.fft.rfft(x))[round(hz * len(x) / SAMPLE_RATE_HZ)])

    both = mix(low, high, background_db=-20)
    assert level(both, 4_000) / level(both, 500) == pytest.approx(0.1, rel=0.02)
    one_then_other = follow(low, high, crossfade_s=0.05)
    assert len(one_then_other) == round(1.95 * SAMPLE_RATE_HZ)
    first, last = one_then_other[:16_000], one_then_other[-16_000:]
    assert level(first, 500) > 100 * level(first, 4_000)
    assert level(last, 4_000) > 100 * level(last, 500)
