"""Weights of HiFi-GAN and its descendants are translated here: weight norm is folded, names of compiled models cleaned.

Names are relative to the vocoder: the dict under "generator" in a HiFi-GAN file, or what stands behind
"first_stage_model.vocoder." in a checkpoint of the generator, where weight norm is folded already.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from autorecap.models.genau.vocoder.model import Vocoder, VocoderConfig
from autorecap.models.official_tensors import count, shape_of, take

_COMPILED = "_orig_mod."
# Length and direction of a weight: as weight norm named them in turn.
_WEIGHT_NORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


def from_official(tensors: Mapping[str, Tensor], config: VocoderConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the state of `Vocoder(config)` from official tensors, and the names that were not used.

    Raises ValueError that names a tensor which is missing, has another shape, or holds NaN.
    """
    folded, origin = fold_weight_norm(tensors)
    with torch.device("meta"):
        state = take(Vocoder(config).state_dict(), folded, "vocoder")
    used = {name for own in state for name in origin[own]}
    return state, sorted(set(tensors) - used)


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Returns plain weights by name, and which of the given names each is made from.

    A weight is its length times its direction, per slice along the first axis.
    """
    folded: dict[str, Tensor] = {}
    origin: dict[str, tuple[str, ...]] = {}
    for name, tensor in tensors.items():
        plain = name.replace(_COMPILED, "")
        for length, direction in _WEIGHT_NORMS:
            if plain.endswith("." + direction):
                length_name = name.removesuffix(direction) + length
                if length_name not in tensors:
                    raise ValueError(f"official vocoder: {length_name} is missing, which belongs to {name}")
                plain = plain.removesuffix(direction) + "weight"
                lengths, wanted = tensors[length_name].shape, (*tensor.shape[:1], *(1 for _ in tensor.shape[1:]))
                if lengths != wanted:
                    raise ValueError(f"official vocoder: {length_name} has shape {tuple(lengths)}, expected {wanted}")
                norm = torch.linalg.vector_norm(tensor.float(), dim=tuple(range(1, tensor.ndim)), keepdim=True)
                folded[plain] = (tensor.float() * (tensors[length_name].float() / norm)).to(tensor.dtype)
                origin[plain] = (name, length_name)
                break
        else:
            folded[plain], origin[plain] = tensor, (name,)
    return folded, origin


def config_from_official(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None, *, size: str = "official"
) -> VocoderConfig:
    """Returns the config that official weights were made with.

    Widths and kernels are read from shapes. Rates and dilations leave no trace there: they come from the JSON file
    beside the weights where it is given as `settings`, else they are the released model's.
    Raises ValueError for other weights, and for settings of a network that is not HiFi-GAN's of this hop.
    """
    folded, _ = fold_weight_norm(tensors)
    width, num_mels, _ = shape_of(folded, "conv_pre.weight", "vocoder", 3)
    num_rates = count(folded, "ups.{}.weight")
    num_blocks = count(folded, "resblocks.{}.convs1.0.weight")
    if not num_rates or num_blocks % num_rates:
        raise ValueError(
            f"official vocoder: {num_rates} upsamplings and {num_blocks} residual blocks are not those of a HiFi-GAN V1"
        )
    rates, dilations = VocoderConfig.rates, VocoderConfig.dilations
    if settings is not None:
        try:
            rates = tuple(settings["upsample_rates"])
            (dilations,) = {tuple(row) for row in settings["resblock_dilation_sizes"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"official vocoder: its settings name no upsample_rates, or not one row of resblock_dilation_sizes "
                f"for all blocks ({error!r})"
            ) from None
    return VocoderConfig(
        size=size,
        num_mels=num_mels,
        width=width,
        rates=rates,
        rate_kernels=tuple(shape_of(folded, f"ups.{i}.weight", "vocoder", 3)[2] for i in range(num_rates)),
        kernels=tuple(
            shape_of(folded, f"resblocks.{i}.convs1.0.weight", "vocoder", 3)[2] for i in range(num_blocks // num_rates)
        ),
        dilations=dilations,
    )
