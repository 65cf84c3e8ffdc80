"""The U-Net over latents, in one dimension, is what the paper compares FIT with (Table 4, "w/ U-Net").

Its layout is that of latent diffusion (Rombach et al., 2022): residual convolutions at several resolutions, shifted by
the timestep, with attention to the frames and to the context, and skips from the way down to the way up. Every frame
gets the same work, and so does padding: mask it, and the sound comes out as it would alone, but no faster.

Shape suffixes: B batch, C channels, T frames of a resolution, S context tokens, D context width.
"""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models.genau.backbones.backbone import Backbone, ContextTokens, Prediction, Text
from autorecap.models.genau.backbones.config import UNetConfig
from autorecap.models.genau.backbones.layers import Layer
from autorecap.models.genau.norms import GroupNorm

NORM_EPS = 1e-5


class Condition(NamedTuple):
    """Every stage is conditioned on this."""

    embedding_BD: Tensor
    tokens_BSD: Tensor
    token_mask_BS: Tensor | None


class Conv(nn.Conv1d):
    """A convolution takes padding for silence, as it does the frames before the first."""

    def forward(self, x_BCT: Tensor, mask_B1T: Tensor | None = None) -> Tensor:
        """shape (B, C, T) -> (B, C', T / stride)"""
        return super().forward(x_BCT if mask_B1T is None else x_BCT.masked_fill(~mask_B1T, 0))


class Residual(nn.Module):
    """Two convolutions, shifted by the embedding in between, are added to the input."""

    def __init__(self, width_in: int, width: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm_in = GroupNorm(config.norm_groups, width_in, eps=NORM_EPS)
        self.conv_in = Conv(width_in, width, 3, padding=1)
        self.shift = nn.Linear(config.context.width, width)
        self.norm_out = GroupNorm(config.norm_groups, width, eps=NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = Conv(width, width, 3, padding=1)
        self.skip = nn.Identity() if width_in == width else nn.Conv1d(width_in, width, 1)
        nn.init.zeros_(self.conv_out.weight)  # begins as the identity
        if self.conv_out.bias is not None:
            nn.init.zeros_(self.conv_out.bias)

    def forward(self, x_BCT: Tensor, condition: Condition, mask_B1T: Tensor | None) -> Tensor:
        """shape (B, C, T) -> (B, C', T)"""
        hidden = self.conv_in(F.silu(self.norm_in(x_BCT, mask_B1T)), mask_B1T)
        hidden = hidden + self.shift(F.silu(condition.embedding_BD))[..., None]
        hidden = self.dropout(F.silu(self.norm_out(hidden, mask_B1T)))
        out_BCT: Tensor = self.skip(x_BCT) + self.conv_out(hidden, mask_B1T)
        return out_BCT


class Stage(nn.Module):
    """A residual block is followed by attention among the frames and to the context, at resolutions that have it."""

    def __init__(self, width_in: int, level: int, config: UNetConfig) -> None:
        super().__init__()
        width, head, context = config.widths[level], config.head_width, config.context.width
        self.residual = Residual(width_in, width, config)
        self.attends = level >= config.attention_from
        if self.attends:
            self.among = Layer(width, width, head, dropout=config.dropout)
            self.condition = Layer(width, width, head, context_width=context, dropout=config.dropout)

    def forward(self, x_BCT: Tensor, condition: Condition, mask_B1T: Tensor | None) -> Tensor:
        """shape (B, C, T) -> (B, C', T)"""
        x_BCT = self.residual(x_BCT, condition, mask_B1T)
        if not self.attends:
            return x_BCT
        x_BTC: Tensor = x_BCT.transpose(1, 2)
        x_BTC = self.among(x_BTC, mask_NK=None if mask_B1T is None else mask_B1T[:, 0])
        x_BTC = self.condition(x_BTC, condition.tokens_BSD, condition.token_mask_BS)
        return x_BTC.transpose(1, 2)


class UNet(Backbone):
    """The U-Net is called as `backbone.py` says. It has no latents of its own: it takes and gives None."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.max_frames = config.channels, config.max_frames
        self.frames_multiple = config.frames_multiple
        widths, layers = config.widths, config.residual_layers
        self.context = ContextTokens(config.context, time_hidden=4 * widths[0])
        self.conv_in = Conv(config.channels, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        skips = [widths[0]]  # widths of what the way up gets from the way down, first in, last out
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(Stage(skips[-1] if i == 0 else width, level, config) for i in range(layers)))
            skips += [width] * layers
            if level + 1 < len(widths):
                self.shrink.append(Conv(width, width, 3, stride=2, padding=1))
                skips.append(width)
        lowest = len(widths) - 1
        self.middle = nn.ModuleList(Stage(widths[lowest], lowest, config) for _ in range(2))
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        before = widths[lowest]
        for level in range(lowest, -1, -1):
            stages = nn.ModuleList()
            for _ in range(layers + 1):
                stages.append(Stage(before + skips.pop(), level, config))
                before = widths[level]
            self.up.append(stages)
            if level:
                self.grow.append(Conv(before, before, 3, padding=1))
        self.norm_out = GroupNorm(config.norm_groups, widths[0], eps=NORM_EPS)
        self.conv_out = Conv(widths[0], config.channels, 3, padding=1)

    def forward(
        self,
        x_BCT: Tensor,
        timesteps_B: Tensor,
        text: Text,
        dataset_ids_B: Tensor,
        mask_BT: Tensor | None = None,
        previous_latents: Tensor | None = None,
    ) -> Prediction:
        """Predicts the noise in a latent. shape (B, C, T) -> (B, C, T); see `Backbone.forward`."""
        self.check_frames(x_BCT)
        if previous_latents is not None:
            raise ValueError("previous_latents: a U-Net has no latents: pass None")
        masks = self._masks(x_BCT, mask_BT)
        tokens_BSD, token_mask_BS = self.context(timesteps_B, text, dataset_ids_B)
        embedding_BD = tokens_BSD[:, : self.context.num_vectors].sum(dim=1)
        condition = Condition(embedding_BD, tokens_BSD, token_mask_BS)

        hidden = self.conv_in(x_BCT.to(self.conv_in.weight.dtype), masks[0])
        skips = [hidden]
        for level, stages in enumerate(cast(Iterable[nn.ModuleList], self.down)):
            for stage in stages:
                hidden = self.run(stage, hidden, condition, masks[level])
                skips.append(hidden)
            if level < len(self.shrink):
                hidden = self.shrink[level](hidden, masks[level])
                skips.append(hidden)
        for stage in self.middle:
            hidden = self.run(stage, hidden, condition, masks[-1])
        for step, stages in enumerate(cast(Iterable[nn.ModuleList], self.up)):
            level = len(self.up) - 1 - step
            for stage in stages:
                hidden = self.run(stage, torch.cat([hidden, skips.pop()], dim=1), condition, masks[level])
            if level:
                hidden = self.grow[step](repeat(hidden, "b c t -> b c (t two)", two=2), masks[level - 1])
        eps_BCT = self.conv_out(F.silu(self.norm_out(hidden, masks[0])), masks[0]).to(x_BCT.dtype)
        return Prediction(eps=eps_BCT if masks[0] is None else eps_BCT.masked_fill(~masks[0], 0), latents=None)

    def _masks(self, x_BCT: Tensor, mask_BT: Tensor | None) -> list[Tensor | None]:
        """Returns which frames are sound at each resolution, each of shape (B, 1, T), or None where all are."""
        levels = len(self.config.widths)
        if mask_BT is None or bool((mask_BT := self.check_mask(x_BCT, mask_BT)).all()):
            return [None] * levels
        mask_B1T = mask_BT.to(x_BCT.device, non_blocking=True)[:, None]
        return [mask_B1T[..., :: 2**level] for level in range(levels)]

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compiles stage by stage in place, by torch.compile."""
        for module in self.modules():
            if isinstance(module, Stage):
                module.compile(backend=backend)
