"""HTSAT and CLAP's audio branch share this Swin transformer over spectrograms.

Chen et al., "HTS-AT: A Hierarchical Token-Semantic Audio Transformer", 2022. The layers and their weights are those
that transformers has for CLAP; the mel front-end is ours, and so is the way through the layers: tokens stay in the
order of the attention windows, so that shifting, cutting into windows and merging patches are one selection of rows
each, and attention needs no matrix of scores in memory.
Shape suffixes: B batch, T frames, M mel bands, P patches, W windows, L patches of a window, H heads, N time vectors,
C channels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from autorecap.models.audio import Float32, LogMel, MelConfig
from autorecap.models.config import check_heads, check_positive, check_share

MASKED = -100.0  # added to the score of two patches that a shift brought together from far apart, as HTS-AT has it


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """A SwinConfig fixes an HTSAT encoder, a Swin transformer over a mel spectrogram folded to a square image."""

    mel: MelConfig
    patch: int = 4  # mel bands and frames per patch of the image
    width: int = 96  # channels of the first stage; each further stage has twice as many
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks per stage
    heads: tuple[int, ...] = (4, 8, 16, 32)  # attention heads per stage
    window: int = 8  # patches per side of an attention window
    image: int = 256  # pixels per side: 64 bands x 4 chunks of time, and 256 frames
    drop_path: float = 0.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_positive("swin", self, "patch", "width", "window", "image")
        check_share("swin", self, "drop_path", "dropout")
        if len(self.depths) != len(self.heads) or not self.depths:
            raise ValueError(
                f"swin: {len(self.depths)} depths but {len(self.heads)} heads: write one of each per stage"
            )
        if min(*self.depths, *self.heads) < 1:
            raise ValueError(f"swin: depths are {self.depths}, heads are {self.heads}: write 1 or more of each")
        for stage, heads in enumerate(self.heads):
            check_heads("swin", self.width * 2**stage, heads)
        if self.image % self.mel.num_mels:
            raise ValueError(f"swin: an image of {self.image} does not divide into rows of {self.mel.num_mels} bands")
        if self.image % (self.patch * self.window * 2 ** (len(self.depths) - 1)):
            raise ValueError(
                f"swin: an image of {self.image} does not divide into patches of {self.patch}, stages and windows"
            )

    @property
    def out_width(self) -> int:
        """The last stage has this many channels."""
        return int(self.width * 2 ** (len(self.depths) - 1))

    @property
    def max_frames(self) -> int:
        """The image has room for this many frames of a spectrogram."""
        return self.image * (self.image // self.mel.num_mels)

    @property
    def num_vectors(self) -> int:
        """A window becomes this many time vectors: 32 at the usual sizes."""
        chunks = self.image // self.mel.num_mels  # of time, stacked in the image
        return int(chunks * self.image // (self.patch * 2 ** (len(self.depths) - 1)))


class SwinEncoder(nn.Module):
    """The encoder of HTSAT and CLAP's audio branch is a log-mel, a batch norm over the bands, and Swin blocks."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mel)
        self.swin: Any = ClapAudioEncoder(
            ClapAudioConfig(
                window_size=config.window,
                num_mel_bins=config.mel.num_mels,
                spec_size=config.image,
                patch_size=config.patch,
                patch_stride=[config.patch, config.patch],
                patch_embeds_hidden_size=config.width,
                hidden_size=config.out_width,
                depths=list(config.depths),
                num_attention_heads=list(config.heads),
                num_hidden_layers=len(config.depths),
                drop_path_rate=config.drop_path,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
            )
        )
        self.swin.batch_norm = _BatchNorm(config.mel.num_mels)
        self.paths = nn.ModuleList(_Path(config, stage) for stage in range(len(config.depths)))

    def image(self, mel_BTM: Tensor) -> Tensor:
        """Normalises, stretches and folds log-mels for the first layer. float32, shape (B, T, M) -> (B, 1, 256, 256)"""
        bands_BMT1 = rearrange(mel_BTM.float(), "b t m -> b m t 1")
        normal_B1TM = rearrange(self.swin.batch_norm(bands_BMT1), "b m t 1 -> b 1 t m")
        image: Tensor = self.swin.reshape_mel2img(normal_B1TM)
        return image

    def forward(self, mel_BTM: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes log-mels, as `self.mel` makes them. shape (B, T, M) -> time vectors (B, N, C), pooled (B, C)"""
        embed = self.swin.patch_embed
        x_BPC = embed(self.image(mel_BTM).to(embed.proj.weight.dtype))
        for path, stage in zip(self.paths, self.swin.layers, strict=True):
            x_BPC = path(stage, x_BPC)
        x_BPC = self.swin.norm(x_BPC)
        chunks = self.config.image // self.config.mel.num_mels
        side = self.config.image // (self.config.patch * 2 ** (len(self.config.depths) - 1))
        vectors = reduce(x_BPC, "b (chunk f t) c -> b (chunk t) c", "mean", chunk=chunks, t=side)
        return vectors, reduce(x_BPC, "b p c -> b c", "mean")


class _BatchNorm(Float32, nn.BatchNorm2d):
    """The batch norm runs over the mel bands, in float32."""


class _Path(nn.Module):
    """A path leads the tokens through one stage. It has no weights: the stage is handed to it.

    Tokens come in row by row, are kept in window order, and leave row by row in the next stage's smaller image.
    """

    into_windows: Tensor
    shift: Tensor
    unshift: Tensor
    out: Tensor
    mask: Tensor

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        side = config.image // config.patch // 2**stage
        self.window_patches = config.window**2
        self.num_heads = config.heads[stage]
        self.can_shift = side > config.window  # one window that covers all has nothing to shift
        grid = torch.arange(side * side).reshape(side, side)
        step = config.window // 2
        straight, shifted = (_windows(torch.roll(grid, (-by, -by), (0, 1)), config.window) for by in (0, step))
        last = shifted if self.can_shift and config.depths[stage] % 2 == 0 else straight
        if stage + 1 < len(config.depths):  # the four that merge, column by column
            rows = rearrange(grid, "(r a) (c b) -> (r c b a)", a=2, b=2)
        else:
            rows = grid.flatten()
        region = (torch.arange(side) >= side - config.window).long() + (torch.arange(side) >= side - step).long()
        regions_WL = _windows(region[:, None] * 3 + region[None], config.window).reshape(-1, self.window_patches)
        apart_WLL = regions_WL[:, :, None] != regions_WL[:, None]
        for name, value in (
            ("into_windows", straight),
            ("shift", _inverse(straight)[shifted]),
            ("unshift", _inverse(shifted)[straight]),
            ("out", _inverse(last)[rows]),
            ("mask", torch.where(apart_WLL, MASKED, 0.0)),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, stage: Any, x_BPC: Tensor) -> Tensor:
        """shape (B, P, C) -> (B, P / 4, 2C), or (B, P, C) after the last stage"""
        x_BPC = x_BPC.index_select(1, self.into_windows)
        is_shifted = False
        for number, block in enumerate(stage.blocks):
            wants_shift = self.can_shift and number % 2 == 1
            if wants_shift != is_shifted:
                x_BPC = x_BPC.index_select(1, self.shift if wants_shift else self.unshift)
                is_shifted = wants_shift
            x_BPC = x_BPC + block.drop_path(self._attend(block, block.layernorm_before(x_BPC), is_shifted))
            x_BPC = x_BPC + block.output(block.intermediate(block.layernorm_after(x_BPC)))
        x_BPC = x_BPC.index_select(1, self.out)
        if stage.downsample is None:
            return x_BPC
        merged = rearrange(x_BPC, "b (p four) c -> b p (four c)", four=4)
        fewer_BPC: Tensor = stage.downsample.reduction(stage.downsample.norm(merged))
        return fewer_BPC

    def _attend(self, block: Any, x_BPC: Tensor, is_shifted: bool) -> Tensor:
        attention = block.attention.self
        size = {"l": self.window_patches, "h": self.num_heads}
        q, k, v = (
            rearrange(projection(x_BPC), "b (w l) (h d) -> (b w) h l d", **size)
            for projection in (attention.query, attention.key, attention.value)
        )
        bias_HLL = rearrange(
            attention.relative_position_bias_table[attention.relative_position_index.flatten()],
            "(l k) h -> h l k",
            l=self.window_patches,
        ).contiguous()  # as fused kernels of GPUs want it
        if is_shifted:
            bias_WHLL = bias_HLL + self.mask[:, None].to(bias_HLL.dtype)
            bias = bias_WHLL.repeat(len(x_BPC), 1, 1, 1)
        else:
            bias = bias_HLL.expand(len(q), -1, -1, -1)
        dropout = attention.dropout.p if self.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        heard_BPC = rearrange(heads, "(b w) h l d -> b (w l) (h d)", b=len(x_BPC))
        out_BPC: Tensor = block.attention.output(heard_BPC, x_BPC)
        return out_BPC


def _windows(grid: Tensor, window: int) -> Tensor:
    """Returns a square image's entries in window order, flat."""
    return rearrange(grid, "(r a) (c b) -> (r c a b)", a=window, b=window)


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
