"""The audio front-end against independent references: transformers' numpy code, analytic sines."""

import math

import numpy as np
import pytest
import torch
from transformers import audio_utils

from autorecap.models.audio import (
    LogMel,
    MelConfig,
    _resample_by_taps,
    mel_filter_bank,
    prepare_waveform,
    resample,
    to_mono,
)

HTSAT, CLAP = MelConfig(), MelConfig(sample_rate_hz=48_000, hop=480)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


def sine(hz: float, sample_rate_hz: int, num_samples: int) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(num_samples, dtype=torch.float64) / sample_rate_hz).float()


def reference_filters(config: MelConfig) -> np.ndarray:
    return audio_utils.mel_filter_bank(
        num_frequency_bins=config.window // 2 + 1,
        num_mel_filters=config.num_mels,
        min_frequency=config.min_hz,
        max_frequency=config.max_hz,
        sampling_rate=config.sample_rate_hz,
        norm="slaney",
        mel_scale="slaney",
    )


@pytest.mark.parametrize("config", [HTSAT, CLAP, MelConfig(sample_rate_hz=16_000, max_hz=8_000, min_hz=0, num_mels=80)])
def test_mel_filters_equal_those_of_transformers(config: MelConfig) -> None:
    np.testing.assert_allclose(mel_filter_bank(config).numpy(), reference_filters(config), atol=1e-7)


@pytest.mark.parametrize("config", [HTSAT, CLAP])
def test_log_mels_equal_those_of_transformers(config: MelConfig) -> None:
    x_BS = noise(2, config.sample_rate_hz)
    ours_BTM = LogMel(config)(x_BS)
    for x_S, ours_TM in zip(x_BS, ours_BTM, strict=True):
        reference = audio_utils.spectrogram(
            x_S.double().numpy(),
            audio_utils.window_function(config.window, "hann"),
            frame_length=config.window,
            hop_length=config.hop,
            power=2.0,
            mel_filters=reference_filters(config),
            log_mel="dB",
        )
        np.testing.assert_allclose(ours_TM.numpy(), reference.T, atol=1e-3)


def test_log_mel_has_a_frame_every_hop_and_never_falls_below_its_floor() -> None:
    mel_BTM = LogMel(MelConfig(min_power=1e-4))(torch.zeros(1, 320_000))
    assert mel_BTM.shape == (1, 1_001, 64)
    assert bool((mel_BTM == -40).all())


def test_log_mel_passes_gradients_to_the_waveform() -> None:
    x_BS = noise(1, 8_000).requires_grad_()
    LogMel(HTSAT)(x_BS).sum().backward()
    assert x_BS.grad is not None
    assert bool(torch.isfinite(x_BS.grad).all())
    assert bool((x_BS.grad != 0).any())


@pytest.mark.parametrize("rates", [(44_100, 32_000), (16_000, 32_000), (32_000, 48_000), (48_000, 32_000)])
def test_resampling_keeps_a_sine(rates: tuple[int, int]) -> None:
    from_hz, to_hz = rates
    y_S = resample(sine(1_234.5, from_hz, from_hz), from_hz, to_hz)
    assert len(y_S) == to_hz
    inner = slice(100, -100)  # at the ends the filter reaches over the edge
    assert (y_S - sine(1_234.5, to_hz, to_hz))[inner].abs().max() < 2e-3


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    y_S = resample(sine(12_000, 48_000, 48_000), 48_000, 16_000)
    assert y_S[100:-100].abs().max() < 2e-3


def test_resampling_between_rates_without_a_common_factor_is_the_same_filter() -> None:
    y_S = resample(sine(440, 22_051, 22_051), 22_051, 32_000)
    assert len(y_S) == 32_000
    assert (y_S - sine(440, 32_000, 32_000))[100:-100].abs().max() < 2e-3
    x_BS = noise(2, 4_410)
    torch.testing.assert_close(
        _resample_by_taps(x_BS, 441, 320, reach=9, num_out=3_200), resample(x_BS, 44_100, 32_000), atol=1e-6, rtol=0
    )


def test_resampling_a_batch_equals_resampling_its_rows() -> None:
    x_BS = noise(3, 5_000)
    together = resample(x_BS, 44_100, 32_000)
    alone = torch.stack([resample(x_S, 44_100, 32_000) for x_S in x_BS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_channels_are_averaged_and_int16_is_scaled() -> None:
    stereo = noise(2, 1_000)
    torch.testing.assert_close(to_mono(stereo), (stereo[0] + stereo[1]) / 2)
    pcm = np.array([0, 16_384, -32_768], dtype=np.int16)
    torch.testing.assert_close(to_mono(pcm), torch.tensor([0.0, 0.5, -1.0]))


def test_arrays_that_run_backwards_or_are_of_another_byte_order_are_read() -> None:
    x = np.linspace(-0.5, 0.5, 100, dtype=np.float32)
    torch.testing.assert_close(to_mono(x[::-1]), torch.from_numpy(x).flip(0))
    torch.testing.assert_close(to_mono(x.astype(">f4")), torch.from_numpy(x))


@pytest.mark.parametrize("rate", [16_000, 32_000, 44_100, 48_000])
def test_a_prepared_clip_has_zero_mean_peak_one_half_and_zeros_behind(rate: int) -> None:
    x_S = prepare_waveform(noise(2, 2 * rate) + 0.3, rate, target_rate_hz=32_000, num_samples=320_000)
    assert x_S.shape == (320_000,)
    assert x_S.abs().max() == pytest.approx(0.5, abs=1e-5)
    assert x_S[:64_000].mean() == pytest.approx(0, abs=1e-6)
    assert bool((x_S[64_000:] == 0).all())


def test_silence_is_prepared_as_silence() -> None:
    x_S = prepare_waveform(np.zeros(3_200, np.int16), 32_000, target_rate_hz=32_000, num_samples=320_000)
    assert bool((x_S == 0).all())


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(0), "at least one sample"),
        (torch.zeros(2, 3, 4), r"\(2, 3, 4\)"),
        (torch.tensor([0.0, math.nan]), "NaN"),
        (torch.tensor([0.0, math.inf]), "infinite"),
        (torch.zeros(10, dtype=torch.int64), "int64"),
        (torch.zeros(320_001), "cut it"),
    ],
)
def test_a_waveform_that_cannot_be_used_is_refused_with_a_reason(waveform: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_waveform(waveform, 32_000, target_rate_hz=32_000, num_samples=320_000)


def test_ten_seconds_at_any_rate_fit_the_window() -> None:
    for rate in (8_000, 22_050, 44_100, 48_000):
        x_S = prepare_waveform(noise(10 * rate), rate, target_rate_hz=32_000, num_samples=320_000)
        assert x_S.shape == (320_000,)


def test_mel_bands_beyond_the_nyquist_frequency_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit below half of 16000"):
        MelConfig(sample_rate_hz=16_000)
