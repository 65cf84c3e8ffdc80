"""Frozen dataclasses hold the sizes of GenAu's two backbones and its noise schedule. `SIZES` holds FIT's.

Table 10 of the paper varies `patch_size`, `num_latents` and the text encoders (`context.summary_width`: 1,536 for
CLAP and T5, 1,024 for T5 alone, 512 for CLAP alone); Table 11 varies `channels`; Table 3 compares `s` and `l`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autorecap.models.config import check_positive, check_share, from_dict

PREDICTIONS = ("eps", "v", "x0")


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """A backbone is conditioned on this beside the noisy latent: texts, the timestep, the dataset."""

    width: int = 1_024  # of a context token
    summary_width: int = 1_536  # of the text as one vector: CLAP 512 and FLAN-T5 1,024, concatenated. 0: no such vector
    word_width: int = 0  # of the text word by word, FLAN-T5's hidden states. 0: as released, no such tokens
    num_datasets: int = 32  # dataset ids, the unconditional one among them

    def __post_init__(self) -> None:
        check_positive("context", self, "width", "num_datasets")
        for name in ("summary_width", "word_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"context: {name} is {getattr(self, name)}: write its width, or 0 for none")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """A FitConfig fixes FIT, the transformer of the paper (sections 3.3 and 4.2). The defaults are GenAu-S."""

    size: str = "s"  # its name in `SIZES`, for people
    channels: int = 64  # of the VAE's latent
    max_frames: int = 256  # latent frames of the longest clip: 10.24 s at 25 a second
    patch_size: int = 1  # frames per patch token
    group_size: int = 32  # patches that local, read and write layers see at once
    num_latents: int = 256  # learned tokens of the longest clip, split evenly over its groups
    patch_width: int = 1_024
    latent_width: int = 1_024
    num_blocks: int = 4  # one more, of local layers alone, follows
    local_layers: int = 2  # per block, over the patches of a group
    global_layers: int = 4  # per block, over the latents of all groups
    head_width: int = 64  # channels per attention head
    dropout: float = 0.1  # in the feed-forward parts of local and global layers
    self_conditioning: bool = True  # accept the latents of the step before; in official weights, but never trained
    context: ContextConfig = ContextConfig()

    def __post_init__(self) -> None:
        check_positive("fit", self, "channels", "max_frames", "patch_size", "group_size", "num_latents", "patch_width")
        check_positive("fit", self, "latent_width", "num_blocks", "local_layers", "global_layers", "head_width")
        if self.max_frames % self.group_frames:
            raise ValueError(
                f"fit: {self.max_frames} frames do not divide into groups of {self.group_size} patches of "
                f"{self.patch_size} frames: set max_frames to a multiple of {self.group_frames}"
            )
        if self.num_latents % self.max_groups:
            raise ValueError(f"fit: {self.num_latents} latents do not divide into {self.max_groups} groups")
        for name in ("patch_width", "latent_width"):
            if getattr(self, name) % self.head_width:
                raise ValueError(f"fit: {name} {getattr(self, name)} does not divide into heads of {self.head_width}")
        if self.context_attention_width % self.head_width:
            raise ValueError(f"context: width {self.context.width} does not divide into heads of {self.head_width}")
        check_share("fit", self, "dropout")

    @property
    def group_frames(self) -> int:
        """A group has this many latent frames; the number of frames must be a multiple of it."""
        return self.group_size * self.patch_size

    @property
    def max_groups(self) -> int:
        """The longest clip has this many groups."""
        return self.max_frames // self.group_frames

    @property
    def group_latents(self) -> int:
        """A group has this many latents."""
        return self.num_latents // self.max_groups

    @property
    def cross_width(self) -> int:
        """Read and write have this hidden width."""
        return min(self.patch_width, self.latent_width)

    @property
    def context_attention_width(self) -> int:
        """The attention to the context has this hidden width."""
        return min(self.latent_width, self.context.width)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FitConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        return from_dict(cls, values, "fit")


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A UNetConfig fixes the 1D U-Net over latents that FIT is compared with ("GenAu w/ U-Net", Table 4: 462 M).

    The paper gives the number of parameters alone. The layout is that of latent diffusion (Rombach et al., 2022),
    which the systems it is compared with use, in one dimension; the widths are chosen to meet that number.
    """

    size: str = "unet"
    channels: int = 64  # of the VAE's latent
    max_frames: int = 256
    widths: tuple[int, ...] = (448, 640, 832, 1_024)  # per resolution; each one has half the frames of the one before
    residual_layers: int = 2  # per resolution, and one more on the way up
    attention_from: int = 1  # the first resolution with attention, to itself and to the context
    head_width: int = 64
    dropout: float = 0.1
    norm_groups: int = 32
    context: ContextConfig = ContextConfig()

    def __post_init__(self) -> None:
        check_positive("unet", self, "channels", "max_frames", "residual_layers", "head_width", "norm_groups")
        if not self.widths:
            raise ValueError("unet: widths is empty: write one width per resolution")
        for width in self.widths:
            if width < 1 or width % self.head_width or width % self.norm_groups:
                raise ValueError(
                    f"unet: a width of {width} does not divide into heads of {self.head_width} "
                    f"and {self.norm_groups} norm groups"
                )
        if self.max_frames % self.frames_multiple:
            raise ValueError(f"unet: set max_frames to a multiple of {self.frames_multiple}, not {self.max_frames}")
        check_share("unet", self, "dropout")

    @property
    def frames_multiple(self) -> int:
        """The number of frames must be a multiple of this."""
        return int(2 ** (len(self.widths) - 1))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "UNetConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        return from_dict(cls, values, "unet")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """A DiffusionConfig fixes the noise schedule, and what the backbone predicts.

    The defaults are the paper's and the released code's.
    """

    num_timesteps: int = 1_000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    prediction: str = "eps"  # the noise; or "v" (Salimans and Ho, 2022), alpha * noise - sigma * x_0; or "x0"

    def __post_init__(self) -> None:
        if self.num_timesteps < 1:
            raise ValueError(f"diffusion: num_timesteps is {self.num_timesteps}: write 1 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"diffusion: beta from {self.beta_start} to {self.beta_end}: write rising values between 0 and 1"
            )
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"diffusion: prediction is {self.prediction!r}: write one of {', '.join(PREDICTIONS)}")


SIZES: dict[str, FitConfig] = {
    # learns synthesised sounds in minutes on a laptop
    "demo": FitConfig(
        size="demo",
        channels=16,
        num_latents=128,
        patch_width=128,
        latent_width=128,
        num_blocks=2,
        local_layers=1,
        global_layers=2,
        head_width=32,
        self_conditioning=False,
        context=ContextConfig(width=128, summary_width=128),
    ),
    # the one configuration that the official code ships
    "yaml": FitConfig(
        size="yaml", patch_size=2, group_size=16, num_latents=64, patch_width=512, latent_width=512, num_blocks=2
    ),
    # the paper's two models, their widths inferred from the numbers of their parameters
    "s": FitConfig(),
    "l": FitConfig(size="l", latent_width=1_536, num_blocks=6),
}
