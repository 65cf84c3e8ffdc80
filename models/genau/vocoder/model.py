"""HiFi-GAN's generator turns a log-mel spectrogram into a waveform (Kong et al., 2020).

Names of weights are HiFi-GAN's, so weights of that family load by name, weight norm folded in
(`genau/official/vocoder.py`). Shape suffixes: B batch, M mel bands, T frames, S samples, C channels.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from autorecap.models.config import from_dict
from autorecap.models.genau.audio import MEL

SLOPE = 0.1  # of the leaky ReLUs
LAST_SLOPE = 0.01  # of the last one. An oversight in HiFi-GAN's code, but its weights are trained with it
INIT_STD = 0.01


@dataclass(frozen=True, kw_only=True)
class VocoderConfig:
    """A VocoderConfig fixes widths and rates.

    The defaults are the released vocoder's (AudioLDM's HiFi-GAN for 16 kHz and 64 bands).
    """

    size: str = "base"  # its name in `SIZES`, for people
    num_mels: int = MEL.num_mels
    width: int = 1_024  # after the first convolution; each upsampling halves it
    rates: tuple[int, ...] = (5, 4, 2, 2, 2)  # of upsampling; their product is the hop, 160 samples
    rate_kernels: tuple[int, ...] = (16, 16, 8, 4, 4)
    kernels: tuple[int, ...] = (3, 7, 11)  # of the residual blocks that run side by side after each upsampling
    dilations: tuple[int, ...] = (1, 3, 5)  # within each residual block, one after the other

    def __post_init__(self) -> None:
        for name in ("rates", "rate_kernels", "kernels", "dilations"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(
                    f"vocoder: {name} are {getattr(self, name)}: write at least one number, each 1 or more"
                )
        if len(self.rates) != len(self.rate_kernels):
            raise ValueError(f"vocoder: {len(self.rates)} rates, but {len(self.rate_kernels)} rate_kernels")
        if any(kernel < rate for rate, kernel in zip(self.rates, self.rate_kernels, strict=True)):
            raise ValueError(
                f"vocoder: rate_kernels are {self.rate_kernels} and rates {self.rates}: a kernel must reach its rate"
            )
        if math.prod(self.rates) != MEL.hop:
            raise ValueError(f"vocoder: rates of {self.rates} make {math.prod(self.rates)} samples, expected {MEL.hop}")
        if self.width < 1 or self.width % 2 ** len(self.rates):
            raise ValueError(f"vocoder: width is {self.width}: write a multiple of {2 ** len(self.rates)}")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"vocoder: kernels are {self.kernels}: write odd numbers")

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VocoderConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        return from_dict(cls, values, "vocoder")


SIZES: dict[str, VocoderConfig] = {
    "demo": VocoderConfig(size="demo", width=128, kernels=(3, 7), dilations=(1, 3)),  # learns on a laptop
    "base": VocoderConfig(),
}


class Vocoder(nn.Module):
    """Convolutions go from frames to samples, with several receptive fields averaged at each rate."""

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_pre = nn.Conv1d(config.num_mels, config.width, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        width = config.width
        for rate, kernel in zip(config.rates, config.rate_kernels, strict=True):
            self.ups.append(nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2))
            width //= 2
            self.resblocks.extend(ResBlock(width, kernel, config.dilations) for kernel in config.kernels)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)
        for layer in (*self.ups.modules(), *self.resblocks.modules(), self.conv_post):
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                nn.init.normal_(layer.weight, 0.0, INIT_STD)

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Returns waveforms between -1 and 1, in fp32. shape (B, M, T) -> (B, 160 * T)

        What the network makes beyond that (32 samples with the released kernels) is cut off; the official code keeps
        it. Raises ValueError for a shape that does not fit.
        """
        if mel_BMT.ndim != 3 or mel_BMT.shape[1] != self.config.num_mels or not mel_BMT.shape[2]:
            raise ValueError(
                f"log-mel: shape is {tuple(mel_BMT.shape)}, expected (batch, {self.config.num_mels}, frames)"
            )
        h = self.conv_pre(mel_BMT.to(self.conv_post.weight.dtype))
        side_by_side = len(self.config.kernels)
        for i, up in enumerate(self.ups):
            h = up(F.leaky_relu(h, SLOPE))
            blocks = self.resblocks[i * side_by_side : (i + 1) * side_by_side]
            h = torch.stack([block(h) for block in blocks]).mean(dim=0)
        x_BS: Tensor = torch.tanh(self.conv_post(F.leaky_relu(h, LAST_SLOPE)).float()).squeeze(1)
        return x_BS[:, : mel_BMT.shape[2] * MEL.hop]

    @torch.no_grad()
    def synthesise(self, mel_BMT: Tensor) -> Tensor:
        """Runs `forward` for listening. Raises ValueError, which names the clip, where the result holds NaN."""
        x_BS: Tensor = self(mel_BMT)
        for what, x in (("log-mel", mel_BMT), ("waveform", x_BS)):
            bad = ~torch.isfinite(x).flatten(1).all(dim=1)
            if bool(bad.any()):
                raise ValueError(
                    f"vocoder: the {what} of clip {int(bad.int().argmax())} holds NaN or infinity: "
                    f"{'the model that made it' if what == 'log-mel' else 'its weights'} must be broken"
                )
        return x_BS

    def add_weight_norm(self) -> None:
        """Lets lengths and directions of weights be trained apart, as HiFi-GAN is. `remove_weight_norm` undoes it."""
        for layer in self._convolutions():
            parametrizations.weight_norm(layer)

    def remove_weight_norm(self) -> None:
        """Folds weight norm into the weights: fewer tensors, the same output, the state that is saved."""
        for layer in self._convolutions():
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")

    def _convolutions(self) -> list[nn.Module]:
        return [layer for layer in self.modules() if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))]


class ResBlock(nn.Module):
    """Pairs of a dilated and a plain convolution are each added to their input."""

    def __init__(self, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()

        def convolution(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(width, width, kernel, dilation=dilation, padding="same")

        self.convs1 = nn.ModuleList(convolution(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)

    def forward(self, h: Tensor) -> Tensor:
        """shape (B, C, T) -> (B, C, T)"""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            h = h + plain(F.leaky_relu(dilated(F.leaky_relu(h, SLOPE)), SLOPE))
        return h
