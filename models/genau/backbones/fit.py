"""FIT is the transformer backbone (paper, section 3.3; Menapace et al., 2024, "Snap Video"); `FitBlock` is its block.

A latent becomes patches, contiguous groups of them, and a few learned tokens per group, the latents. A block is:

    local layers    patches attend to patches of their group
    condition       latents attend to the context: text, timestep, dataset
    read            latents attend to the patches of their group
    global layers   latents attend to the latents of all groups of the clip
    write           patches attend to the latents of their group

and after the last block come local layers once more. Most of the work is on the latents.

Shape suffixes: B batch, C channels, T frames, K groups per clip, N groups in the batch, G patches per group,
P patch width, M latents per group, L latent width, D context width, S context tokens.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from autorecap.models.genau.backbones.backbone import Backbone, ContextTokens, Prediction, Text
from autorecap.models.genau.backbones.config import FitConfig
from autorecap.models.genau.backbones.groups import Groups, group
from autorecap.models.genau.backbones.layers import FeedForward, Layer, norm


class LocalLayers(nn.ModuleList):
    """Patches pass through these layers within their groups."""

    def __init__(self, config: FitConfig) -> None:
        width = config.patch_width
        super().__init__(
            Layer(width, width, config.head_width, dropout=config.dropout) for _ in range(config.local_layers)
        )

    def forward(self, patches_NGP: Tensor, groups: Groups) -> Tensor:
        """shape (N, G, P) -> (N, G, P)"""
        for layer in self:
            patches_NGP = layer(patches_NGP, mask_NK=groups.patch_mask_NG)
        return patches_NGP


class FitBlock(nn.Module):
    """The block of FIT is local layers, condition, read, global layers and write."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        patch, latent, head = config.patch_width, config.latent_width, config.head_width
        self.local_layers = LocalLayers(config)
        self.condition = Layer(latent, config.context_attention_width, head, context_width=config.context.width)
        self.read = Layer(latent, config.cross_width, head, context_width=patch)
        self.global_layers = nn.ModuleList(
            Layer(latent, latent, head, dropout=config.dropout) for _ in range(config.global_layers)
        )
        self.write = Layer(patch, config.cross_width, head, context_width=latent)

    def forward(
        self,
        patches_NGP: Tensor,
        latents_NML: Tensor,
        context_BSD: Tensor,
        context_mask_BS: Tensor | None,
        groups: Groups,
    ) -> tuple[Tensor, Tensor]:
        """Returns patches (N, G, P) and latents (N, M, L), with what they read."""
        patches_NGP = self.local_layers(patches_NGP, groups)
        latents_NML = self.condition(latents_NML, context_BSD, context_mask_BS, clips=groups)
        latents_NML = self.read(latents_NML, patches_NGP, groups.patch_mask_NG)
        among = groups.group_mask_BK
        among = None if among is None else among.repeat_interleave(latents_NML.shape[1], dim=1)
        for layer in self.global_layers:
            latents_NML = layer(latents_NML, mask_NK=among, clips=groups)
        return self.write(patches_NGP, latents_NML), latents_NML


class Fit(Backbone):
    """FIT is the backbone of GenAu-S and GenAu-L. It is called as `backbone.py` says."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        self.config = config
        self.channels, self.max_frames, self.frames_multiple = config.channels, config.max_frames, config.group_frames
        self.takes_latents = config.self_conditioning
        patch, latent = config.patch_width, config.latent_width
        self.context = ContextTokens(config.context, time_hidden=4 * patch)
        self.patch_in = nn.Linear(config.channels * config.patch_size, patch)
        self.patch_in_norm = nn.LayerNorm(patch)
        self.positions = nn.Parameter(torch.randn(config.max_frames // config.patch_size, patch) * 0.02)
        self.latents = nn.Parameter(torch.randn(config.num_latents, latent) * 0.02)
        self.blocks = nn.ModuleList(FitBlock(config) for _ in range(config.num_blocks))
        self.last = LocalLayers(config)
        self.patch_out_norm = norm(patch)
        self.patch_out = nn.Linear(patch, config.channels * config.patch_size)
        self.self_conditioning = _self_conditioning(latent) if config.self_conditioning else None
        self._scale_linears()

    @torch.no_grad()
    def _scale_linears(self) -> None:
        """Scales the weights to a third of the usual variance, but for the context's: as the official model begins."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("context."):
                for parameter in module.parameters():
                    parameter.mul_(1 / math.sqrt(3))

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
        config = self.config
        self.check_frames(x_BCT)
        mask_BT = None if mask_BT is None else self.check_mask(x_BCT, mask_BT)
        padding_B1T = None if mask_BT is None else ~mask_BT.to(x_BCT.device, non_blocking=True)[:, None]
        groups = group(x_BCT, mask_BT, config)
        context_BSD, context_mask_BS = self.context(timesteps_B, text, dataset_ids_B)

        patches_NGP = self._patches(x_BCT if padding_B1T is None else x_BCT.masked_fill(padding_B1T, 0), groups)
        latents_NML = self._latents(previous_latents, groups)
        for block in self.blocks:
            inputs = (patches_NGP, latents_NML, context_BSD, context_mask_BS, groups)
            patches_NGP, latents_NML = self.run(block, *inputs)
        patches_NGP = self.run(self.last, patches_NGP, groups)

        pixels_BKGP = groups.unpack(self.patch_out(self.patch_out_norm(patches_NGP)))
        eps_BCT = rearrange(pixels_BKGP, "b k g (c p) -> b c (k g p)", c=config.channels).to(x_BCT.dtype)
        return Prediction(
            eps=eps_BCT if padding_B1T is None else eps_BCT.masked_fill(padding_B1T, 0),
            latents=groups.unpack(latents_NML).flatten(1, 2),
        )

    def _patches(self, x_BCT: Tensor, groups: Groups) -> Tensor:
        """Returns patch tokens with their positions. shape (B, C, T) -> (N, G, P)"""
        size = {"g": self.config.group_size, "p": self.config.patch_size}
        x_BKGP = rearrange(x_BCT.to(self.patch_in.weight.dtype), "b c (k g p) -> b k g (c p)", **size)
        positions_KGP = rearrange(self.positions, "(k g) p -> k g p", g=size["g"])[: groups.per_clip]
        patches_NGP: Tensor = self.patch_in_norm(self.patch_in(groups.pack(x_BKGP)))
        return patches_NGP + groups.pack(positions_KGP.expand(groups.batch, -1, -1, -1))

    def _latents(self, previous_BML: Tensor | None, groups: Groups) -> Tensor:
        """Returns the latents that the first block gets. shape -> (N, M, L)"""
        per_group = self.config.group_latents
        learned_KML = rearrange(self.latents, "(k m) l -> k m l", m=per_group)[: groups.per_clip]
        latents_NML = groups.pack(learned_KML.expand(groups.batch, -1, -1, -1))
        if previous_BML is None:
            return latents_NML
        if self.self_conditioning is None:
            raise ValueError("previous_latents: this model was built without self_conditioning: pass None")
        expected = (groups.batch, groups.per_clip * per_group, self.config.latent_width)
        if previous_BML.shape != expected:
            raise ValueError(f"previous_latents: shape is {tuple(previous_BML.shape)}, expected {expected}")
        previous_NML = groups.pack(rearrange(previous_BML, "b (k m) l -> b k m l", m=per_group))
        seen_NML: Tensor = self.self_conditioning(previous_NML.to(self.latents.dtype))
        return latents_NML + seen_NML

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Compiles the blocks in place by torch.compile: names of weights stay, equal blocks share compiled code."""
        for block in (*self.blocks, self.last):
            block.compile(backend=backend)


def _self_conditioning(width: int) -> nn.Module:
    """Builds what reads the latents of the sampling step before.

    Its last gain starts at 0, and nothing trains it, here or in the official code: it has no effect on released
    weights. Frozen, so that data-parallel training does not wait for its gradients.
    """
    last = norm(width)
    nn.init.zeros_(last.weight)
    return nn.Sequential(FeedForward(width), last).requires_grad_(False)
