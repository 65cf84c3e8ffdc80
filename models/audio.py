"""The front-end of the audio encoders turns waveforms into log-mel spectrograms: it resamples, prepares, transforms.

All of it is torch: batched, on any device, differentiable. Shape suffixes: B batch, S samples, T frames, M mel bands.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models.config import check_positive

PEAK = 0.5  # AutoCap's waveforms are scaled to this peak
PEAK_EPS = 1e-8  # added to a peak before it divides
INT16_SCALE = 32_768.0  # int16 full scale
NOT_FINITE = "holds NaN or infinite samples"

SINC_ZERO_CROSSINGS = 6  # half-width of the resampling window, in zero crossings of the sinc
SINC_ROLLOFF = 0.99  # cut-off as a share of the lower Nyquist frequency: the window needs room to fall off
MAX_FILTER_BANK = 4_000_000  # taps: rates such as 22,051 Hz share no factor with 32,000 and would need 10^9

# Rounding in a float32 transform is 0.03 dB in bands that are 90 dB below the loudest, and is heard by nobody above.
DOUBLE_BELOW = 1e-8

MEL_BREAK_HZ = 1_000.0  # Slaney's mel scale is linear below, logarithmic above
MEL_LINEAR_HZ = 200.0 / 3  # width of one mel below the break
MEL_LOG_STEP = math.log(6.4) / 27  # 27 mels from the break to 6.4 times the break


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """A MelConfig fixes a log-mel front-end.

    The defaults are HTSAT's in AutoCap: 1,001 frames of 64 bands for 10 s.
    """

    sample_rate_hz: int = 32_000
    window: int = 1_024  # samples per frame, and the size of its Fourier transform
    hop: int = 320  # samples from frame to frame: 10 ms
    num_mels: int = 64
    min_hz: float = 50.0
    max_hz: float = 14_000.0
    min_power: float = 1e-10  # what is weaker counts as this: -100 dB

    def __post_init__(self) -> None:
        check_positive("mel", self, "sample_rate_hz", "window", "hop", "num_mels")
        if self.min_power <= 0:
            raise ValueError(f"mel: min_power is {self.min_power}: write more than 0")
        if not 0 <= self.min_hz < self.max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"mel: bands from {self.min_hz} to {self.max_hz} Hz do not fit below half of {self.sample_rate_hz} Hz"
            )


# --- waveforms ---------------------------------------------------------------------------------------------------


def to_mono(waveform: object) -> Tensor:
    """Returns the mean of a waveform's channels as float32 of shape (S,).

    `waveform`: (S,) or (channels, S), a tensor or numpy array, floating point or int16.

    Raises ValueError for an empty waveform, one of another shape or type, and one with NaN or infinity in it.
    """
    x_S = _mixed(_channels(waveform))
    if not bool(torch.isfinite(x_S).all()):
        raise ValueError(NOT_FINITE)
    return x_S


def _channels(waveform: object) -> Tensor:
    """Returns the samples as (channels, S), in their own type. Raises ValueError for anything but a waveform."""
    if isinstance(waveform, np.ndarray) and waveform.dtype.kind in "fi":
        # torch has no read-only tensors, as bytes of a record would be, none that run backwards, and one byte order
        waveform = np.require(waveform, waveform.dtype.newbyteorder("="), ["C", "W"])
    try:
        x = torch.as_tensor(waveform)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected a tensor or array of samples, found {type(waveform).__name__}") from error
    if x.ndim not in (1, 2) or x.numel() == 0:
        raise ValueError(f"expected (samples,) or (channels, samples) with at least one sample, found {tuple(x.shape)}")
    if x.dtype != torch.int16 and not x.is_floating_point():
        raise ValueError(f"expected floating point or int16 samples, found {x.dtype}")
    if x.ndim == 2 and x.shape[0] > x.shape[1]:
        raise ValueError(
            f"expected (channels, samples), found {x.shape[0]} channels of {x.shape[1]} samples: transpose it"
        )
    return x.reshape(-1, x.shape[-1])


def _mixed(x_CS: Tensor) -> Tensor:
    """Averages the channels in float32, with full scale at 1. shape (..., channels, S) -> (..., S)"""
    scale = INT16_SCALE if x_CS.dtype == torch.int16 else 1.0
    return x_CS.float().mean(dim=-2) / scale


def normalise(x_S: Tensor) -> Tensor:
    """Scales a waveform to zero mean and a peak of `PEAK`; silence stays silence.

    It comes before padding, which would move the mean.
    """
    x_S = x_S - x_S.mean()
    return x_S / (x_S.abs().max() + PEAK_EPS) * PEAK


def prepare_waveform(waveform: object, sample_rate_hz: int, *, target_rate_hz: int, num_samples: int) -> Tensor:
    """Returns one clip as AutoCap takes it. shape (num_samples,)

    It is mono, of `target_rate_hz`, of zero mean and peak 0.5, with zeros behind it.

    Raises ValueError as `to_mono` does, and for a clip that lasts longer than `num_samples`: what to cut is the
    caller's decision.
    """
    x_CS = _channels(waveform)
    _check_length(x_CS, sample_rate_hz, num_samples / target_rate_hz)
    x_BS, finite_B = _prepared([x_CS], sample_rate_hz, target_rate_hz, num_samples, torch.device("cpu"))
    if not bool(finite_B.all()):
        raise ValueError(NOT_FINITE)
    return x_BS[0]


def as_waveforms(waveforms: Sequence[object], sample_rate_hz: int, max_s: float) -> list[Tensor]:
    """Returns every waveform as (channels, S), in its own type and uncopied, as `prepare_waveforms` takes them.

    Raises ValueError that says which waveform is empty, of another shape or type, or lasts longer than `max_s`, and
    for a sample rate that is none.
    """
    out = []
    for i, waveform in enumerate(waveforms):
        try:
            out.append(_channels(waveform))
            _check_length(out[-1], sample_rate_hz, max_s)
        except ValueError as error:
            raise ValueError(f"waveform {i}: {error}") from None
    return out


def prepare_waveforms(
    waveforms: Sequence[Tensor],
    sample_rate_hz: int,
    *,
    target_rate_hz: int,
    num_samples: int,
    device: torch.device,
    numbers: Sequence[int] | None = None,
) -> Tensor:
    """Prepares many clips together on `device`, each as `prepare_waveform` does. shape (B, num_samples)

    `waveforms`: those of `as_waveforms`.

    A clip's samples do not depend on the others. Raises ValueError that says which waveform is not finite: its place,
    or what `numbers` has at its place.
    """
    groups: dict[tuple[torch.dtype, int], list[int]] = {}
    for i, x_CS in enumerate(waveforms):
        groups.setdefault((x_CS.dtype, len(x_CS)), []).append(i)
    out_BS = torch.empty(len(waveforms), num_samples, device=device)
    for (dtype, _), members in groups.items():
        chosen = [waveforms[i] for i in members]
        x_BS, finite_B = _prepared(chosen, sample_rate_hz, target_rate_hz, num_samples, device)
        if dtype.is_floating_point and not bool(finite_B.all()):  # PCM always is, and a GPU need not be waited for
            place = members[int(finite_B.int().argmin())]
            raise ValueError(f"waveform {numbers[place] if numbers else place}: {NOT_FINITE}")
        out_BS[torch.tensor(members, device=device)] = x_BS
    return out_BS


def _check_length(x_CS: Tensor, sample_rate_hz: int, max_s: float) -> None:
    if not isinstance(sample_rate_hz, int | np.integer) or sample_rate_hz < 1:
        raise ValueError(f"the sample rate is {sample_rate_hz!r}: give a whole number of Hz")
    if x_CS.shape[1] > math.ceil(max_s * sample_rate_hz):
        raise ValueError(f"lasts {x_CS.shape[1] / sample_rate_hz:.2f} s, but the model hears {max_s:g} s: cut it")


def _prepared(
    clips: Sequence[Tensor], sample_rate_hz: int, target_rate_hz: int, num_samples: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Prepares clips of one type and number of channels, and tells which are finite. shape (B, num_samples), (B,)"""
    # Always padded to the whole window, so that a clip's sums run over the same positions in any company.
    limit = math.ceil(num_samples * sample_rate_hz / target_rate_hz)
    together = torch.zeros(len(clips), len(clips[0]), limit, dtype=clips[0].dtype, pin_memory=device.type == "cuda")
    for row, x_CS in zip(together, clips, strict=True):
        row[:, : x_CS.shape[1]] = x_CS
    lengths = [math.ceil(x_CS.shape[1] * target_rate_hz / sample_rate_hz) for x_CS in clips]
    length_B = torch.tensor(lengths).clamp(max=num_samples).to(device, non_blocking=True)
    mono_BS = _mixed(together.to(device, non_blocking=True))
    finite_B = torch.isfinite(mono_BS).all(dim=1)
    x_BS = resample(mono_BS, sample_rate_hz, target_rate_hz)[:, :num_samples]
    sound_BS = torch.arange(num_samples, device=device) < length_B[:, None]  # the filter rings on beyond the end
    mean_B = torch.where(sound_BS, x_BS, 0).sum(dim=1, dtype=torch.float64) / length_B
    x_BS = torch.where(sound_BS, x_BS - mean_B[:, None].float(), 0)
    return x_BS / (x_BS.abs().amax(dim=1, keepdim=True) + PEAK_EPS) * PEAK, finite_B


# --- resampling --------------------------------------------------------------------------------------------------


def resample(x: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Resamples band-limited, with a Hann-windowed sinc. shape (..., S) -> (..., ceil(S * to_hz / from_hz))

    The filter is that of torchaudio's `sinc_interp_hann` with its default width and roll-off.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ValueError(f"sample rates must be positive, found {from_hz} and {to_hz} Hz")
    if from_hz == to_hz:
        return x
    divisor = math.gcd(from_hz, to_hz)
    stride, num_phases = from_hz // divisor, to_hz // divisor
    num_out = math.ceil(x.shape[-1] * num_phases / stride)
    x_BS = x.reshape(-1, x.shape[-1])
    reach = math.ceil(SINC_ZERO_CROSSINGS * stride / (min(stride, num_phases) * SINC_ROLLOFF))
    if num_phases * (2 * reach + stride) <= MAX_FILTER_BANK:
        kernel = _polyphase_kernel(stride, num_phases, reach).to(x_BS)
        frames = F.pad(x_BS, (reach, reach + stride)).unfold(-1, len(kernel), stride)  # (B, S / stride, taps)
        y_BS = (frames @ kernel).flatten(1)[:, :num_out]  # a matrix product: 2.6 times as fast as conv1d on a CPU
    else:
        y_BS = _resample_by_taps(x_BS, stride, num_phases, reach, num_out)
    return y_BS.reshape(*x.shape[:-1], num_out)


def _windowed_sinc(distance: Tensor, stride: int, num_phases: int) -> Tensor:
    """Returns the filter's taps for distances (in input samples) between an output sample and input samples."""
    cutoff = min(stride, num_phases) * SINC_ROLLOFF / stride
    t = (distance * cutoff).clamp(-SINC_ZERO_CROSSINGS, SINC_ZERO_CROSSINGS)
    window = torch.cos(t * math.pi / SINC_ZERO_CROSSINGS / 2) ** 2
    return torch.sinc(t) * window * cutoff


@lru_cache(maxsize=8)
def _polyphase_kernel(stride: int, num_phases: int, reach: int) -> Tensor:
    """Returns one filter per output phase. shape (stride + 2 * reach, phases)"""
    taps = torch.arange(-reach, reach + stride, dtype=torch.float64)
    offsets = torch.arange(num_phases, dtype=torch.float64) * stride / num_phases
    return _windowed_sinc(taps[:, None] - offsets, stride, num_phases).float()


def _resample_by_taps(x_BS: Tensor, stride: int, num_phases: int, reach: int, num_out: int) -> Tensor:
    """Applies the same filter tap by tap to all output samples: for rates without a common factor."""
    position = torch.arange(num_out, dtype=torch.float64, device=x_BS.device) * stride / num_phases
    base = position.floor().long()
    padded = F.pad(x_BS, (reach, reach + stride))
    y_BS = torch.zeros(len(x_BS), num_out, dtype=x_BS.dtype, device=x_BS.device)
    for tap in range(-reach, reach + 1):
        weight = _windowed_sinc((base + tap) - position, stride, num_phases).to(x_BS.dtype)
        y_BS += padded[:, base + tap + reach] * weight
    return y_BS


# --- log-mel -----------------------------------------------------------------------------------------------------


def _mel_to_hz(mel: Tensor) -> Tensor:
    break_mel = MEL_BREAK_HZ / MEL_LINEAR_HZ
    above = MEL_BREAK_HZ * torch.exp(MEL_LOG_STEP * (mel - break_mel))
    return torch.where(mel < break_mel, mel * MEL_LINEAR_HZ, above)


def _hz_to_mel(hz: float) -> float:
    if hz < MEL_BREAK_HZ:
        return hz / MEL_LINEAR_HZ
    return MEL_BREAK_HZ / MEL_LINEAR_HZ + math.log(hz / MEL_BREAK_HZ) / MEL_LOG_STEP


def mel_filter_bank(config: MelConfig) -> Tensor:
    """Returns triangular filters on Slaney's mel scale, each of unit area. shape (window // 2 + 1, num_mels)"""
    num_bins = config.window // 2 + 1
    bin_hz = torch.linspace(0, config.sample_rate_hz / 2, num_bins, dtype=torch.float64)
    low, high = _hz_to_mel(config.min_hz), _hz_to_mel(config.max_hz)
    edges_hz = _mel_to_hz(torch.linspace(low, high, config.num_mels + 2, dtype=torch.float64))
    width_hz = edges_hz.diff()
    distance = edges_hz[None, :] - bin_hz[:, None]  # (bins, mels + 2)
    rising = -distance[:, :-2] / width_hz[:-1]
    falling = distance[:, 2:] / width_hz[1:]
    area = (edges_hz[2:] - edges_hz[:-2]) / 2
    return (torch.minimum(rising, falling).clamp(min=0) / area).float()


class Float32(nn.Module):
    """A Float32 module stays in float32 when the model around it goes to half precision: decibels need it."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32":
        super()._apply(lambda tensor: tensor.to(fn(tensor.new_empty(0)).device), recurse)  # type: ignore[no-untyped-call]  # torch's has no types
        return self


class LogMel(Float32):
    """LogMel computes power mel spectrograms in dB, with frames centred on their hop and reflected at both ends."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window, dtype=torch.float64), persistent=False)
        self.register_buffer("filters", mel_filter_bank(config), persistent=False)

    def forward(self, x_BS: Tensor) -> Tensor:
        """shape (B, S) -> (B, S // hop + 1, num_mels), in dB"""
        # A CPU's cache holds the frames of one clip: a batch at once takes three times as long there.
        at_once = 1 if x_BS.device.type == "cpu" else max(1, len(x_BS))
        return torch.cat([self._log_mel(some_BS) for some_BS in torch.split(x_BS, at_once)])

    def _log_mel(self, x_BS: Tensor) -> Tensor:
        half = self.config.window // 2
        padded = F.pad(x_BS[:, None], (half, half), mode="reflect")[:, 0]
        frames_BTW = padded.unfold(-1, self.config.window, self.config.hop)
        window = self.window if self.config.min_power < DOUBLE_BELOW else self.window.float()
        spectrum = torch.fft.rfft(frames_BTW * window)  # as torch.stft, which takes twice as long on a CPU
        power_BTF = (spectrum.real.square() + spectrum.imag.square()).float()
        return 10.0 * torch.log10((power_BTF @ self.filters).clamp(min=self.config.min_power))
