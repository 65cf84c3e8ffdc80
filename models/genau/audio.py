"""Waveforms become the log-mel spectrogram that VAE and vocoder work on, and come back from it without a network.

The spectrogram is HiFi-GAN's, which fixes it for VAE and generator too: 16,000 Hz mono, a frame every 10 ms, 64 bands
from 0 to 8,000 Hz, magnitudes (not powers) on a natural logarithm. All of it is torch: batched, on any device, in fp32
whatever the precision around it.

Shape suffixes: B batch, S samples, T frames, M mel bands, F frequencies, W window, N latent frames.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from autorecap.models.audio import MelConfig, mel_filter_bank, normalise, resample, to_mono

MEL = MelConfig(sample_rate_hz=16_000, window=1_024, hop=160, num_mels=64, min_hz=0.0, max_hz=8_000.0)
GRIFFIN_LIM_ROUNDS = 32
PAD = (MEL.window - MEL.hop) // 2  # reflected at both ends: exactly one frame per hop
MIN_SAMPLES = (PAD // MEL.hop + 1) * MEL.hop  # the shortest whole number of hops that can be reflected
FLOOR = 1e-5  # magnitudes below it count as it
SILENCE = math.log(FLOOR)  # a frame of silence: -11.51 in every band

FRAMES_PER_LATENT = 4  # the VAE's
SAMPLES_PER_LATENT = FRAMES_PER_LATENT * MEL.hop
LATENTS_PER_S = MEL.sample_rate_hz / SAMPLES_PER_LATENT  # 25

CROP_TRIES = 10  # to find a part that is not silent
AUDIBLE = 1e-4  # of full scale; a part that never reaches it is silent
OUTPUT_PEAK = 0.8  # of generated waveforms

# --- lengths -----------------------------------------------------------------------------------------------------


def latent_frames(seconds: float, multiple: int = 1) -> int:
    """Returns how many latent frames hold `seconds` of sound, rounded up to a multiple.

    Backbones ask for a multiple of their groups.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"a duration of {seconds} s: write a number of seconds above 0")
    samples = round(seconds * MEL.sample_rate_hz)  # 10.24 s are 256 frames, although 10.24 * 25 is not quite 256
    frames = max(1, math.ceil(samples / SAMPLES_PER_LATENT))
    return math.ceil(frames / multiple) * multiple


def latent_mask(num_frames: Sequence[int] | Tensor, length: int) -> Tensor:
    """Marks the frames of a latent of `length` frames that hold sound, before the padding. bool, shape (B, length)

    The mask lies on the CPU, as backbones want it. Raises ValueError for a clip without frames or with more than
    `length`.
    """
    counts_B = torch.as_tensor(num_frames, device="cpu")
    if counts_B.numel() == 0 or not 1 <= int(counts_B.min()) <= int(counts_B.max()) <= length:
        raise ValueError(f"{counts_B.tolist()} frames of sound per clip: each clip needs 1 to {length}")
    return torch.arange(length) < counts_B[:, None]


# --- waveforms ---------------------------------------------------------------------------------------------------


def prepare_clip(
    waveform: object, sample_rate_hz: int, *, num_samples: int, generator: torch.Generator | None = None
) -> Tensor:
    """Returns a clip as VAE and generator hear it. shape (num_samples,)

    It is mono, of 16 kHz, of zero mean and peak 0.5, with zeros behind it.

    A clip that is too long is cut: to its beginning, or where a CPU `generator` is given to a random part of it that
    is not silent. Channels are averaged; the official code hears the first alone, which may be silent.
    Silence stays silence. Raises ValueError for an empty waveform and one with NaN or infinity in it.
    """
    x_S = to_mono(waveform)
    x_S = crop(x_S, math.ceil(num_samples * sample_rate_hz / MEL.sample_rate_hz), generator)
    x_S = normalise(resample(x_S, sample_rate_hz, MEL.sample_rate_hz)[:num_samples])
    return F.pad(x_S, (0, num_samples - len(x_S)))


def crop(x_S: Tensor, num_samples: int, generator: torch.Generator | None) -> Tensor:
    """Returns at most `num_samples` of a waveform: the first, or with a generator those from a random start on.

    A silent part is drawn again, up to 10 times (the official code's rule).
    """
    last_start = len(x_S) - num_samples
    if generator is None or last_start <= 0:
        return x_S[:num_samples]
    for _ in range(CROP_TRIES):
        start = int(torch.randint(last_start + 1, (), generator=generator))
        part_S = x_S[start : start + num_samples]
        if bool(part_S.abs().max() > AUDIBLE):
            break
    return part_S


def scale_to_peak(x_BS: Tensor, peak: float = OUTPUT_PEAK) -> Tensor:
    """Scales each waveform of a batch to the peak; silence stays silence. shape (..., S) -> (..., S)"""
    loudest = x_BS.abs().amax(dim=-1, keepdim=True)
    return torch.where(loudest > FLOOR, x_BS * (peak / loudest.clamp(min=FLOOR)), x_BS)


# --- log-mel -----------------------------------------------------------------------------------------------------


def log_mel(x_BS: Tensor) -> Tensor:
    """Returns the log-mel spectrogram, a frame per 160 samples. shape (B, S) -> (B, M, T) with T = S / 160

    Differentiable. Raises ValueError where S is no multiple of 160, or too short to be reflected at its ends.
    """
    samples = x_BS.shape[-1]
    if x_BS.ndim != 2 or samples % MEL.hop or samples < MIN_SAMPLES:
        raise ValueError(
            f"waveforms of shape {tuple(x_BS.shape)}: expected (batch, samples) with {MIN_SAMPLES} samples or more, "
            f"a multiple of {MEL.hop}: `prepare_clip` pads to that"
        )
    _, filters_FM, _ = _tables(x_BS.device)
    padded = F.pad(x_BS.float()[:, None], (PAD, PAD), mode="reflect")[:, 0]
    mel_BTM = _spectrum(padded).abs() @ filters_FM
    return mel_BTM.clamp(min=FLOOR).log().mT


def griffin_lim(mel_BMT: Tensor) -> Tensor:
    """Finds a waveform with (nearly) this log-mel spectrogram, without a network. shape (B, M, T) -> (B, 160 * T)

    Griffin and Lim's iteration with momentum (Perraudin et al., 2013): phases are refined until they agree with the
    magnitudes. It sounds hollow beside a trained vocoder; it lets a model without one be heard.
    Each waveform depends on its spectrogram alone, not on its batch. Raises ValueError for NaN.
    """
    if not bool(torch.isfinite(mel_BMT).all()):
        raise ValueError("the log-mel spectrogram holds NaN or infinity: the model that made it is broken")
    _, _, inverse_MF = _tables(mel_BMT.device)
    mel_BTM = mel_BMT.float().mT
    # Floor is what was too weak to be written down: silence, and not 1e-5.
    mel_BTM = torch.where(mel_BTM > SILENCE + 1e-3, mel_BTM.exp(), 0.0)
    magnitude_BTF = (mel_BTM @ inverse_MF).clamp(min=0)
    generator = torch.Generator().manual_seed(0)
    angle_TF = 2 * math.pi * torch.rand(magnitude_BTF.shape[1:], generator=generator)
    phase = torch.polar(torch.ones_like(angle_TF), angle_TF).to(mel_BMT.device)
    before = torch.zeros((), device=mel_BMT.device)
    for _ in range(GRIFFIN_LIM_ROUNDS):
        consistent = _spectrum(_overlap_add(magnitude_BTF * phase))
        phase = consistent + 0.99 * (consistent - before)
        phase = phase / phase.abs().clamp(min=1e-12)
        before = consistent
    return _overlap_add(magnitude_BTF * phase)[:, PAD:-PAD]


def _spectrum(x_BS: Tensor) -> Tensor:
    """Returns the Fourier transform of windowed frames; nothing is padded. complex, shape (B, T, F)"""
    window_W, _, _ = _tables(x_BS.device)
    spectrum_BTF: Tensor = torch.fft.rfft(x_BS.unfold(-1, MEL.window, MEL.hop) * window_W)
    return spectrum_BTF


def _overlap_add(spectrum_BTF: Tensor) -> Tensor:
    """Inverts `_spectrum`: it finds the waveform whose frames are closest to a spectrogram's. shape (B, S + 2 * PAD)"""
    window_W, _, _ = _tables(spectrum_BTF.device)
    frames_BTW = torch.fft.irfft(spectrum_BTF, n=MEL.window) * window_W
    num_frames = frames_BTW.shape[1]

    def add(x_BWT: Tensor) -> Tensor:
        size = (1, (num_frames - 1) * MEL.hop + MEL.window)
        return F.fold(x_BWT, size, kernel_size=(1, MEL.window), stride=(1, MEL.hop))[:, 0, 0]

    weight = add(window_W.square()[None, :, None].expand(1, -1, num_frames))
    return add(frames_BTW.mT) / weight.clamp(min=1e-3)  # the outermost samples lie in the padding, which is cut off


@lru_cache(maxsize=8)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns window (W), mel filters (F, M) and their pseudo-inverse (M, F), once per device.

    They are not a module's buffers, which would follow the models around them into bf16.
    """
    with torch.inference_mode(False):  # a tensor made in inference mode could not be used in training later
        filters_FM = mel_filter_bank(MEL)
        inverse_MF = torch.linalg.pinv(filters_FM)
        return torch.hann_window(MEL.window).to(device), filters_FM.to(device), inverse_MF.to(device)
