"""A GenAu so small that it is built and run in a moment."""

from typing import Any

import torch
from torch import Tensor, nn

from autorecap.models.genau.backbones.config import ContextConfig, FitConfig, UNetConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.model import GenAu, small_encoders
from autorecap.models.genau.vae.model import VAEConfig
from autorecap.models.genau.vocoder.model import VocoderConfig

CONTEXT = ContextConfig(width=48, summary_width=128)
FIT = FitConfig(
    channels=16,
    max_frames=96,
    group_size=32,
    num_latents=24,
    patch_width=32,
    latent_width=48,
    num_blocks=1,
    local_layers=1,
    global_layers=1,
    head_width=16,
    context=CONTEXT,
)
TINY = GenAuConfig(
    size="tiny",
    backbone=FIT,
    vae=VAEConfig(channels=16, width=64, blocks=1, multipliers=(1, 1, 1), inner_channels=16),
    vocoder=VocoderConfig(width=32, kernels=(3,), dilations=(1,)),
)
UNET = UNetConfig(channels=16, max_frames=96, widths=(32, 32), head_width=16, norm_groups=8, context=CONTEXT)


def built(config: GenAuConfig) -> GenAu:
    """An untrained model whose waveforms depend on their latents, which those of an untrained vocoder hardly do."""
    torch.manual_seed(0)
    model = GenAu(config, small_encoders(config)).eval()
    for layer in model.vocoder.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    if isinstance(model.backbone, Fit) and model.backbone.self_conditioning is not None:
        conditioning: Any = model.backbone.self_conditioning
        nn.init.constant_(conditioning[1].weight, 0.5)  # 0 at first: the latents had no effect
    model.scale_factor.fill_(0.5)
    return model


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)
