"""HiFi-GAN's discriminators tell whether a waveform looks real (Kong et al., 2020, sections 2.2 to 2.4), in training.

One kind folds the waveform by a prime period and looks along each phase of it; the other looks at the waveform as it is
and averaged twice. Each gives scores, and what its layers saw, which the generator learns to match.

Shape suffixes: B batch, S samples, C channels, T steps of a period, P period.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

SLOPE = 0.1
Judged = tuple[Tensor, list[Tensor]]
"""Scores of a batch, shape (B, any), and the features of every layer."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorsConfig:
    """A DiscriminatorsConfig fixes periods and widths. The defaults are HiFi-GAN's."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    scales: int = 3  # each at half the rate of the one before
    width: int = 128  # of the scale discriminators' first layer; a period discriminator's has a quarter

    def __post_init__(self) -> None:
        if not self.periods or any(period < 2 for period in self.periods):
            raise ValueError(f"discriminators: periods are {self.periods}: write numbers from 2 on")
        if self.scales < 1 or self.width < 16 or self.width % 16:
            raise ValueError(
                f"discriminators: scales is {self.scales} and width {self.width}: write 1 or more, and a multiple of 16"
            )


class VocoderDiscriminators(nn.Module):
    """All discriminators judge the same waveforms."""

    def __init__(self, config: DiscriminatorsConfig) -> None:
        super().__init__()
        self.periods = nn.ModuleList(PeriodDiscriminator(period, config.width // 4) for period in config.periods)
        self.scales = nn.ModuleList(ScaleDiscriminator(config.width, first=not i) for i in range(config.scales))

    def forward(self, x_BS: Tensor) -> list[Judged]:
        """Returns what each discriminator says of waveforms. shape (B, S)"""
        judged = [discriminator(x_BS) for discriminator in self.periods]
        for i, discriminator in enumerate(self.scales):
            if i:
                x_BS = F.avg_pool1d(x_BS[:, None], 4, 2, padding=2)[:, 0]
            judged.append(discriminator(x_BS))
        return judged


class PeriodDiscriminator(nn.Module):
    """A period discriminator convolves along every phase of a period."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 4 * width, 16 * width, 32 * width)
        strided = [
            weight_norm(nn.Conv2d(before, after, (5, 1), (3, 1), padding=(2, 0))) for before, after in pairwise(widths)
        ]
        self.layers = nn.ModuleList([*strided, weight_norm(nn.Conv2d(widths[-1], widths[-1], (5, 1), padding=(2, 0)))])
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, x_BS: Tensor) -> Judged:
        """shape (B, S) -> (B, any), features"""
        room = -x_BS.shape[1] % self.period
        whole_B1S = F.pad(x_BS[:, None], (0, room), mode="reflect")
        return _judge(rearrange(whole_B1S, "b 1 (t p) -> b 1 t p", p=self.period), self.layers, self.out)


class ScaleDiscriminator(nn.Module):
    """A scale discriminator runs grouped convolutions over the waveform."""

    def __init__(self, width: int, first: bool) -> None:
        """Builds the layers. `first`: it judges the waveform as it is; spectral norm keeps it from winning at once."""
        super().__init__()
        norm = spectral_norm if first else weight_norm
        w = width
        shapes = (  # channels, kernel, stride, groups
            (1, w, 15, 1, 1),
            (w, w, 41, 2, 4),
            (w, 2 * w, 41, 2, 16),
            (2 * w, 4 * w, 41, 4, 16),
            (4 * w, 8 * w, 41, 4, 16),
            (8 * w, 8 * w, 41, 1, 16),
            (8 * w, 8 * w, 5, 1, 1),
        )
        self.layers = nn.ModuleList(
            norm(nn.Conv1d(before, after, kernel, stride, groups=groups, padding=kernel // 2))
            for before, after, kernel, stride, groups in shapes
        )
        self.out = norm(nn.Conv1d(8 * w, 1, 3, padding=1))

    def forward(self, x_BS: Tensor) -> Judged:
        """shape (B, S) -> (B, any), features"""
        return _judge(x_BS[:, None], self.layers, self.out)


def _judge(h: Tensor, layers: nn.ModuleList, out: nn.Module) -> Judged:
    features = []
    for layer in layers:
        h = F.leaky_relu(layer(h), SLOPE)
        features.append(h)
    h = out(h)
    features.append(h)
    return h.flatten(1), features


# --- losses: least squares, as HiFi-GAN's


def discriminator_loss(real: list[Judged], made: list[Judged]) -> Tensor:
    """Returns the discriminators' loss: real waveforms should score 1 and made ones 0. Summed over discriminators."""
    return torch.stack([
        (1 - scores.float()).square().mean() + others.float().square().mean()
        for (scores, _), (others, _) in zip(real, made, strict=True)
    ]).sum()  # fmt: skip


def adversarial_loss(made: list[Judged]) -> Tensor:
    """Returns the vocoder's adversarial loss: waveforms that it made should score 1."""
    return torch.stack([(1 - scores.float()).square().mean() for scores, _ in made]).sum()


def feature_loss(real: list[Judged], made: list[Judged]) -> Tensor:
    """Returns the L1 between what each layer sees in real and in made waveforms, summed over all discriminators."""
    return torch.stack([
        (a.detach().float() - b.float()).abs().mean()
        for (_, features), (_, others) in zip(real, made, strict=True)
        for a, b in zip(features, others, strict=True)
    ]).sum()  # fmt: skip
