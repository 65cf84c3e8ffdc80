"""GenAu's front-end: against the official numbers, and what it promises for any clip."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from autorecap.models.genau import audio
from autorecap.models.genau.audio import (
    MEL,
    MIN_SAMPLES,
    SILENCE,
    griffin_lim,
    latent_frames,
    latent_mask,
    log_mel,
    prepare_clip,
    scale_to_peak,
)
from tests.support.genau_vectors import Vectors

CLIP = 163_840  # 10.24 s


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


def chirp(num_samples: int, rate: int = MEL.sample_rate_hz) -> torch.Tensor:
    seconds = torch.arange(num_samples, dtype=torch.float64) / rate
    return (0.5 * torch.sin(2 * math.pi * (200 + 300 * seconds) * seconds)).float()


# --- the official numbers


@pytest.fixture(scope="module")
def official_wave(vectors: Vectors) -> np.ndarray:
    n = np.arange(CLIP) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 440 * n) + 0.2 * np.sin(2 * np.pi * (200 + 300 * n) * n)
    wave = wave + 0.05 * vectors.input("wave", CLIP).numpy()
    wave[100_000:120_000] = 0
    return wave.astype(np.float32)


def test_normalisation_is_the_official_one(vectors: Vectors, official_wave: np.ndarray) -> None:
    x_S = prepare_clip(official_wave, 16_000, num_samples=CLIP)
    torch.testing.assert_close(x_S[:16], vectors["mel.wave_normalised_first16"], atol=1e-6, rtol=0)
    found = torch.stack([x_S.min(), x_S.max(), x_S.mean()])
    torch.testing.assert_close(found, vectors["mel.wave_normalised_minmaxmean"], atol=1e-6, rtol=0)


def test_filter_bank_and_spectrum_are_the_official_ones(vectors: Vectors, official_wave: np.ndarray) -> None:
    _, filters_FM, _ = audio._tables(torch.device("cpu"))
    torch.testing.assert_close(filters_FM.mT, vectors["mel.filterbank"], atol=1e-7, rtol=0)
    x_S = prepare_clip(official_wave, 16_000, num_samples=CLIP)
    padded = F.pad(x_S[None, None], (audio.PAD, audio.PAD), mode="reflect")[0]
    magnitude_TF = audio._spectrum(padded).abs()[0, [0, 500, 1_023], :512]
    torch.testing.assert_close(magnitude_TF, vectors["mel.stft_mag_rows_0_500_1023"], atol=1e-4, rtol=0)


def test_log_mels_are_the_official_ones(vectors: Vectors, official_wave: np.ndarray) -> None:
    mel_MT = log_mel(prepare_clip(official_wave, 16_000, num_samples=CLIP)[None])[0]
    torch.testing.assert_close(mel_MT.mT, vectors["mel.log_mel"], atol=1e-4, rtol=0)
    short_MT = log_mel(prepare_clip(official_wave[:48_000], 16_000, num_samples=CLIP)[None])[0]
    expected = vectors["mel.log_mel_of_3s_padded_rows_290_310"]
    torch.testing.assert_close(short_MT.mT[290:310], expected, atol=1e-4, rtol=0)


# --- log-mel


@pytest.mark.parametrize("hops", [3, 4, 100, 1_024])
def test_log_mel_has_exactly_one_frame_per_hop(hops: int) -> None:
    assert log_mel(noise(2, 160 * hops)).shape == (2, 64, hops)


def test_log_mel_of_silence_is_the_floor() -> None:
    assert bool((log_mel(torch.zeros(1, 1_600)) == SILENCE).all())


def test_log_mel_of_a_batch_equals_that_of_its_clips() -> None:
    x_BS = noise(3, 16_000)
    alone = torch.cat([log_mel(x_S[None]) for x_S in x_BS])
    torch.testing.assert_close(log_mel(x_BS), alone, atol=1e-5, rtol=0)
    assert torch.equal(log_mel(x_BS), log_mel(x_BS))


def test_log_mel_passes_finite_gradients_even_through_silence() -> None:
    x_BS = torch.cat([noise(1, 8_000), torch.zeros(1, 8_000)]).requires_grad_()
    log_mel(x_BS).sum().backward()
    assert x_BS.grad is not None
    assert bool(torch.isfinite(x_BS.grad).all())
    assert bool((x_BS.grad[0] != 0).any())


def test_log_mel_works_in_fp32_whatever_comes_in_and_whoever_asked_first() -> None:
    audio._tables.cache_clear()
    with torch.inference_mode():
        expected = log_mel(noise(1, 1_600).bfloat16())
    assert expected.dtype == torch.float32
    x_BS = noise(1, 1_600).bfloat16().float().requires_grad_()
    found = log_mel(x_BS)
    found.sum().backward()  # tables that were made in inference mode would refuse this
    torch.testing.assert_close(found.detach(), expected.clone())


@pytest.mark.parametrize("shape", [(1_600,), (1, 1_601), (1, MIN_SAMPLES - 160), (1, 0), (1, 1, 1_600)])
def test_waveforms_that_make_no_whole_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="480 samples or more, a multiple of 160"):
        log_mel(torch.zeros(shape))


# --- clips


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_a_prepared_clip_has_zero_mean_peak_one_half_and_zeros_behind(rate: int) -> None:
    x_S = prepare_clip(noise(2, 2 * rate) + 0.3, rate, num_samples=CLIP)
    assert x_S.shape == (CLIP,)
    assert x_S.abs().max() == pytest.approx(0.5, abs=1e-5)
    assert x_S[:32_000].mean() == pytest.approx(0, abs=1e-6)
    assert bool((x_S[32_000:] == 0).all())


def test_resampled_sound_is_the_same_sound() -> None:
    expected = log_mel(prepare_clip(chirp(32_000), 16_000, num_samples=32_000)[None])
    found = log_mel(prepare_clip(chirp(88_200, 44_100), 44_100, num_samples=32_000)[None])
    loud = expected > -3
    assert int(loud.sum()) > 300
    torch.testing.assert_close(found[loud], expected[loud], atol=0.05, rtol=0)


def test_a_stereo_clip_is_heard_whole_and_silence_stays_silence() -> None:
    left_silent = torch.stack([torch.zeros(16_000), chirp(16_000)])
    mono = prepare_clip(chirp(16_000), 16_000, num_samples=16_000)
    torch.testing.assert_close(prepare_clip(left_silent, 16_000, num_samples=16_000), mono, atol=1e-6, rtol=0)
    assert bool((prepare_clip(np.zeros(100, np.int16), 16_000, num_samples=1_600) == 0).all())


def test_a_long_clip_is_cut_to_its_beginning_or_to_a_part_drawn_by_the_generator() -> None:
    x_S = noise(200_000)
    first = prepare_clip(x_S, 16_000, num_samples=16_000)
    torch.testing.assert_close(first, prepare_clip(x_S[:16_000], 16_000, num_samples=16_000))

    def drawn(seed: int) -> torch.Tensor:
        return prepare_clip(x_S, 16_000, num_samples=16_000, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_a_drawn_part_is_not_silent_where_others_are_not() -> None:
    x_S = torch.zeros(160_000)
    x_S[80_000:] = noise(80_000)
    generator = torch.Generator().manual_seed(0)
    parts = [audio.crop(x_S, 16_000, generator) for _ in range(50)]
    assert all(len(part) == 16_000 for part in parts)
    assert sum(bool((part != 0).any()) for part in parts) >= 49


def test_every_part_of_a_clip_can_be_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = {int(audio.crop(torch.arange(1.0, 8.0), 4, generator)[0]) for _ in range(100)}
    assert starts == {1, 2, 3, 4}


@pytest.mark.parametrize("waveform", [torch.zeros(0), torch.tensor([0.0, math.nan])])
def test_a_clip_without_sound_or_with_nan_is_refused(waveform: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"NaN|at least one sample"):
        prepare_clip(waveform, 16_000, num_samples=1_600)


def test_output_is_scaled_clip_by_clip_and_silence_stays_silence() -> None:
    x_BS = torch.stack([noise(100), noise(100) * 1e-3, torch.zeros(100), torch.full((100,), 1e-9)])
    out = scale_to_peak(x_BS)
    torch.testing.assert_close(out.abs().amax(-1)[:2], torch.tensor([0.8, 0.8]))
    assert torch.equal(out[2:], x_BS[2:])


# --- lengths


@pytest.mark.parametrize(
    ("seconds", "multiple", "frames"),
    [(10.24, 1, 256), (10, 1, 250), (10, 32, 256), (10.25, 32, 288), (2, 32, 64), (0.5, 1, 13), (60, 32, 1_504)],
)
def test_latent_frames_of_a_duration(seconds: float, multiple: int, frames: int) -> None:
    assert latent_frames(seconds, multiple) == frames


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_duration_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        latent_frames(seconds)


def test_latent_mask_marks_the_sound() -> None:
    assert latent_mask([1, 3], 3).tolist() == [[True, False, False], [True, True, True]]
    for counts in ([0], [4], []):
        with pytest.raises(ValueError, match="each clip needs 1 to 3"):
            latent_mask(counts, 3)


# --- back to a waveform


def test_griffin_lim_finds_a_waveform_with_the_same_spectrogram() -> None:
    x_BS = torch.stack([chirp(32_000), noise(32_000)])
    mel_BMT = log_mel(x_BS)
    y_BS = griffin_lim(mel_BMT)
    assert y_BS.shape == x_BS.shape
    loud = mel_BMT > -5
    assert float((log_mel(y_BS) - mel_BMT)[loud].abs().mean()) < 0.25  # natural log: 2 dB
    assert torch.equal(y_BS, griffin_lim(mel_BMT))
    torch.testing.assert_close(griffin_lim(mel_BMT[1:])[0], y_BS[1], atol=1e-4, rtol=0)


def test_griffin_lim_of_silence_is_silence_and_of_nan_an_error() -> None:
    assert bool((griffin_lim(torch.full((1, 64, 10), SILENCE)) == 0).all())
    with pytest.raises(ValueError, match="NaN"):
        griffin_lim(torch.full((1, 64, 10), math.nan))
