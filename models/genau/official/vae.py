"""The VAE's official weights are translated here, and those of its loss, which the same file holds.

Names are relative to the VAE: "encoder.conv_in.weight", "loss.discriminator.main.0.weight". In a checkpoint of the
generator they stand behind "first_stage_model.", together with a vocoder's ("vocoder.").
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from autorecap.models.genau.vae.model import VAE, VAEConfig
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.models.official_tensors import count, shape_of, take, under

_LPIPS = "loss.perceptual_loss."


def from_official(tensors: Mapping[str, Tensor], config: VAEConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the state of `VAE(config)` from official tensors, and the names that were not used.

    Raises ValueError that names a tensor which is missing, has another shape, or holds NaN.
    """
    with torch.device("meta"):
        state = take(VAE(config).state_dict(), tensors, "VAE")
    return state, sorted(set(tensors) - set(state))


def config_from_official(tensors: Mapping[str, Tensor], *, size: str = "official") -> VAEConfig:
    """Reads the config that official weights were made with from their shapes. Raises ValueError for other weights."""
    width, num_mels, _ = shape_of(tensors, "encoder.conv_in.weight", "VAE", 3)
    inner_channels, channels, _ = shape_of(tensors, "post_quant_conv.weight", "VAE", 3)
    levels = count(tensors, "encoder.down.{}.block.0.conv1.weight")
    widths = [shape_of(tensors, f"encoder.down.{i}.block.0.conv1.weight", "VAE", 3)[0] for i in range(levels)]
    return VAEConfig(
        size=size,
        num_mels=num_mels,
        channels=channels,
        width=width,
        multipliers=tuple(each // width for each in widths),
        blocks=count(tensors, "encoder.down.0.block.{}.conv1.weight"),
        inner_channels=inner_channels,
    )


def lpips_from_official(tensors: Mapping[str, Tensor]) -> Lpips:
    """Returns the perceptual distance with its trained weights. Raises ValueError.

    `tensors`: an official VAE checkpoint's, or those of the two files that people have, in one mapping: torchvision's
    VGG-16 ("features.0.weight") and the weights per channel of lpips or taming-transformers ("lin0.model.1.weight").
    """
    lpips = Lpips()
    own = lpips.state_dict()
    found = under(_LPIPS, tensors) or {**{n: t for n, t in own.items() if "scaling" in n}, **tensors}
    for name in own:
        if name.startswith("net.") and (plain := "features." + name.split(".", 2)[2]) in found:
            found[name] = found[plain]
    lpips.load_state_dict(take(own, found, "LPIPS"))
    return lpips
