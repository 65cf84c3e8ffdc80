"""The 1D-VAE writes a log-mel spectrogram as a sequence of latent vectors, 25 a second (paper, section 3.3).

The mel bands are the channels of one-dimensional convolutions over time: neighbouring bands are no image. Names of
weights are those of latent diffusion's autoencoders, so weights of that family load by name.

A clip may have any number of frames that the VAE's stride (4) divides. Its group norms and the attention in its middle
look at the whole clip, so what is behind the clip's end changes it throughout, silence too: in a batch of several
lengths say with `mask_BN` (`latent_mask` of `genau/audio.py`) what is sound, and every clip is what it would be alone.

Shape suffixes: B batch, M mel bands, T frames, N latent frames, C channels, G norm groups.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models import files
from autorecap.models.config import from_dict
from autorecap.models.files import CONFIG, WEIGHTS, ModelFilesError
from autorecap.models.genau.audio import MEL, SILENCE
from autorecap.models.genau.norms import GroupNorm, at_least_float32

FORMAT = "genau-vae/1"
GENERATOR_FORMAT = "genau/1"  # of a GenAu, which has a VAE in it

NORM_GROUPS = 32
NORM_EPS = 1e-6
MIN_LOGVAR, MAX_LOGVAR = -30.0, 20.0  # exp() of what lies beyond is of no use


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """A VAEConfig fixes widths and depths. The defaults are the released model's."""

    size: str = "base"  # its name in `SIZES`, for people
    num_mels: int = MEL.num_mels
    channels: int = 64  # of the latent. Table 11 compares 64, 128 and 256 and settles on 64
    width: int = 512  # of the first level
    multipliers: tuple[int, ...] = (1, 2, 4)  # width of each level; each has half the frames of the one before
    blocks: int = 3  # residual blocks per level of the encoder; the decoder has one more
    inner_channels: int = 256  # between the latent and the levels

    def __post_init__(self) -> None:
        for name in ("num_mels", "channels", "width", "blocks", "inner_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"vae: {name} is {getattr(self, name)}: write 1 or more")
        if not self.multipliers or any(self.width * m % NORM_GROUPS or m < 1 for m in self.multipliers):
            raise ValueError(
                f"vae: widths of {self.width} times {self.multipliers}: each must be a multiple of {NORM_GROUPS}"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Each level has this many channels."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def stride(self) -> int:
        """A latent frame stands for this many frames."""
        return int(2 ** (len(self.multipliers) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VAEConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        return from_dict(cls, values, "vae")


SIZES: dict[str, VAEConfig] = {
    "demo": VAEConfig(size="demo", channels=16, width=64, blocks=1, inner_channels=32),  # learns on a laptop
    "base": VAEConfig(),
}


@dataclass(frozen=True)
class Posterior:
    """A posterior is a Gaussian per latent value, in float32; in float64 where the VAE is."""

    mean: Tensor  # (B, C, N)
    logvar: Tensor  # (B, C, N), between MIN_LOGVAR and MAX_LOGVAR

    @property
    def std(self) -> Tensor:
        return (0.5 * self.logvar).exp()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draws a latent. shape (B, C, N)

        The noise is drawn on the generator's device: a CPU generator gives the same noise whatever the model runs on.
        """
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Returns the divergence from the standard normal, in nats per latent value (a mean, not a sum). shape (B,)"""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).mean(dim=(1, 2))


class VAE(nn.Module):
    """The VAE encodes log-mels (B, M, T) as latents (B, C, T / stride), and decodes them."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv1d(2 * config.inner_channels, 2 * config.channels, 1)
        self.post_quant_conv = nn.Conv1d(config.channels, config.inner_channels, 1)

    def encode(self, mel_BMT: Tensor, mask_BN: Tensor | None = None) -> Posterior:
        """Returns a posterior of shape (B, C, N) for a log-mel (B, M, T); behind a clip's end it is 0 without variance.

        `mask_BN`: True where a latent frame holds sound. None: everywhere.
        Raises ValueError for shapes that do not fit.
        """
        config = self.config
        frames = mel_BMT.shape[-1]
        if mel_BMT.ndim != 3 or mel_BMT.shape[1] != config.num_mels or not frames or frames % config.stride:
            raise ValueError(
                f"log-mel: shape is {tuple(mel_BMT.shape)}, expected (batch, {config.num_mels}, frames) with a number "
                f"of frames that {config.stride} divides: pad the waveform with silence"
            )
        mask_B1N = _checked(mask_BN, mel_BMT, frames // config.stride)
        moments = self.quant_conv(self.encoder(mel_BMT.to(self.quant_conv.weight.dtype), mask_B1N))
        mean, logvar = at_least_float32(moments).chunk(2, dim=1)
        logvar = logvar.clamp(MIN_LOGVAR, MAX_LOGVAR)
        if mask_B1N is not None:
            mean, logvar = torch.where(mask_B1N, mean, 0.0), torch.where(mask_B1N, logvar, MIN_LOGVAR)
        return Posterior(mean, logvar)

    def decode(self, z_BCN: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """Returns the log-mel of a latent, silence behind a clip's end. shape (B, C, N) -> (B, M, N * stride)

        `mask_BN`: True where a latent frame holds sound. None: everywhere.
        Raises ValueError for shapes that do not fit.
        """
        if z_BCN.ndim != 3 or z_BCN.shape[1] != self.config.channels:
            raise ValueError(
                f"latent: shape is {tuple(z_BCN.shape)}, expected (batch, {self.config.channels}, latent frames)"
            )
        mask_B1N = _checked(mask_BN, z_BCN, z_BCN.shape[2])
        made_BMT = self.decoder(self.post_quant_conv(z_BCN.to(self.post_quant_conv.weight.dtype)), mask_B1N)
        return made_BMT if mask_B1N is None else torch.where(_stretch(mask_B1N, self.config.stride), made_BMT, SILENCE)

    def forward(self, mel_BMT: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Returns the reconstruction from a sample of the posterior, shape (B, M, T), and the posterior, for training.

        In evaluation mode the reconstruction is that of the posterior's mean.
        """
        posterior = self.encode(mel_BMT)
        return self.decode(posterior.sample(generator) if self.training else posterior.mean), posterior

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "VAE":
        """Loads the VAE in a folder or hub repository, its own or a GenAu's, in eval mode. Raises ModelFilesError."""
        folder = files.find(path, (CONFIG, WEIGHTS))
        weights = files.read_weights(folder / WEIGHTS)
        try:
            if files.format_of(folder / CONFIG) == FORMAT:
                config = VAEConfig.from_dict(files.read_config(folder / CONFIG, FORMAT))
            else:  # a whole generator
                config = VAEConfig.from_dict(files.read_config(folder / CONFIG, GENERATOR_FORMAT)["vae"])
                prefix = "vae."
                weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelFilesError(f"{folder / CONFIG} is not a config of a VAE or of GenAu ({error})") from error
        with torch.device("meta"):  # no time is spent on random weights
            vae = cls(config)
        vae.to_empty(device="cpu")
        files.fill(vae, weights, folder / WEIGHTS)
        files.check_finite(vae, folder / WEIGHTS)
        return vae.eval()

    def save_pretrained(self, path: str | Path) -> None:
        """Writes config.json and model.safetensors; the same VAE gives the same bytes."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_weights(folder / WEIGHTS, self)
        files.write_config(folder / CONFIG, FORMAT, self.config.to_dict())

    def digest(self) -> str:
        """Returns a digest that tells which VAE made a latent."""
        return files.digest(self, self.config.to_dict())


class Encoder(nn.Module):
    """The encoder is levels of residual blocks, each at half the frame rate of the last, and attention at the end."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv1d(config.num_mels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            level = Level(widths[max(i - 1, 0)], width, config.blocks)
            if i < len(widths) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv1d(widths[-1], 2 * config.inner_channels, 3, padding=1)

    def forward(self, mel_BMT: Tensor, mask_B1N: Tensor | None = None) -> Tensor:
        """shape (B, M, T) -> (B, 2 * inner_channels, N)"""
        masks = _masks(mask_B1N, len(self.down))
        h = self.conv_in(_cut(mel_BMT, masks[0]))
        for level, mask in zip(self.down, masks, strict=True):
            h = level(h, mask)
        moments: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h, mask_B1N), mask_B1N)))
        return moments


class Decoder(nn.Module):
    """The decoder mirrors the encoder, with one residual block more per level."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv1d(config.inner_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList()  # from the highest frame rate to the lowest, as in the encoder
        for i, width in enumerate(widths):
            level = Level(widths[min(i + 1, len(widths) - 1)], width, config.blocks + 1)
            if i > 0:
                level.upsample = Upsample(width)
            self.up.append(level)
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv1d(widths[0], config.num_mels, 3, padding=1)

    def forward(self, z_BCN: Tensor, mask_B1N: Tensor | None = None) -> Tensor:
        """shape (B, inner_channels, N) -> (B, M, T)"""
        masks = _masks(mask_B1N, len(self.up))
        h = self.mid(self.conv_in(_cut(z_BCN, mask_B1N)), mask_B1N)
        for level, mask in zip(reversed(self.up), reversed(masks), strict=True):
            h = level(h, mask)
        mel_BMT: Tensor = self.conv_out(F.silu(self.norm_out(h, masks[0])))
        return mel_BMT


class Level(nn.Module):
    """A level is residual blocks at one frame rate, and the way to the next."""

    def __init__(self, width_in: int, width: int, blocks: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(width if i else width_in, width) for i in range(blocks))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, h: Tensor, mask_B1T: Tensor | None) -> Tensor:
        """shape (B, width_in, T) -> (B, width, T), (B, width, T / 2) or (B, width, 2 * T)"""
        for block in self.block:
            h = block(h, mask_B1T)
        h = _cut(h, mask_B1T)
        if self.downsample is not None:
            h = self.downsample(h)
        if self.upsample is not None:
            h = self.upsample(h)
        return h


class Middle(nn.Module):
    """The middle is a residual block, attention, and another residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(width, width)
        self.attn_1 = Attention(width)
        self.block_2 = ResBlock(width, width)

    def forward(self, h: Tensor, mask_B1N: Tensor | None) -> Tensor:
        """shape (B, C, N) -> (B, C, N)"""
        out: Tensor = self.block_2(self.attn_1(self.block_1(h, mask_B1N), mask_B1N), mask_B1N)
        return out


class ResBlock(nn.Module):
    """Norm, SiLU and convolution come twice, and are added to the input."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.norm1 = group_norm(width_in)
        self.conv1 = nn.Conv1d(width_in, width, 3, padding=1)
        self.norm2 = group_norm(width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)
        self.nin_shortcut = nn.Conv1d(width_in, width, 1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, mask_B1T: Tensor | None) -> Tensor:
        """shape (B, width_in, T) -> (B, width, T)"""
        h = self.conv1(F.silu(self.norm1(x, mask_B1T)))
        h = self.conv2(F.silu(self.norm2(h, mask_B1T)))
        out: Tensor = self.nin_shortcut(x) + h
        return out


class Attention(nn.Module):
    """Frames attend to each other with one head; the result is added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.q = nn.Conv1d(width, width, 1)
        self.k = nn.Conv1d(width, width, 1)
        self.v = nn.Conv1d(width, width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x_BCN: Tensor, mask_B1N: Tensor | None) -> Tensor:
        """shape (B, C, N) -> (B, C, N)"""
        h = self.norm(x_BCN, mask_B1N)
        q, k, v = (layer(h).mT for layer in (self.q, self.k, self.v))
        out: Tensor = x_BCN + self.proj_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1N).mT)
        return out


class Downsample(nn.Module):
    """A strided convolution halves the frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """shape (B, C, T) -> (B, C, T / 2)"""
        out: Tensor = self.conv(h)
        return out


class Upsample(nn.Module):
    """Every frame is repeated, and convolved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """shape (B, C, T) -> (B, C, 2 * T)"""
        out: Tensor = self.conv(h.repeat_interleave(2, dim=-1))
        return out


def group_norm(width: int) -> GroupNorm:
    return GroupNorm(NORM_GROUPS, width, eps=NORM_EPS)


def _checked(mask_BN: Tensor | None, like: Tensor, num_frames: int) -> Tensor | None:
    """Returns the mask on the right device, shape (B, 1, N); None where it masks nothing."""
    if mask_BN is None:
        return None
    if mask_BN.shape != (len(like), num_frames):
        raise ValueError(f"mask: shape is {tuple(mask_BN.shape)}, expected {(len(like), num_frames)}")
    return None if bool(mask_BN.all()) else mask_BN.bool()[:, None].to(like.device)


def _masks(mask_B1N: Tensor | None, levels: int) -> list[Tensor | None]:
    """Returns the mask at each level's frame rate, from the highest on."""
    return [None if mask_B1N is None else _stretch(mask_B1N, 2**i) for i in reversed(range(levels))]


def _stretch(mask_B1N: Tensor, times: int) -> Tensor:
    return mask_B1N.repeat_interleave(times, dim=-1)


def _cut(h_BCT: Tensor, mask_B1T: Tensor | None) -> Tensor:
    """Puts 0 behind a clip's end, whatever was there, NaN included."""
    return h_BCT if mask_B1T is None else torch.where(mask_B1T, h_BCT, 0.0)
