"""FIT's official weights have other names and another layout, which are translated here; shapes tell their size.

Names are relative to the module: without the "model.diffusion_model." of a released checkpoint.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from autorecap.models.genau.backbones.config import ContextConfig, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.official_tensors import count, shape_of, take

_TOP = {
    "latents": "latents",
    "positions": "patches_pe",
    "context.time.frequencies": "time_mlp.0.weights",
    "context.time.hidden": "time_mlp.1",
    "context.time.out": "time_mlp.3",
    "context.dataset": "dataset_id_conditioning_mlp.0",
    "context.summary": "context_projection_summary_text_embeddings",
    "patch_in": "to_patches.0",
    "patch_in_norm": "to_patches.1",
    "patch_out_norm.weight": "patch_to_pixels.0.gamma",
    "patch_out": "patch_to_pixels.1",
    "self_conditioning.1.weight": "self_conditioning_latents_projection.1.gamma",
}
_CROSS = {  # attention, feed-forward
    "condition": ("latents_attend_to_context", "latents_context_attn_ff"),
    "read": ("latents_attend_to_patches", "latents_cross_attn_ff"),
    "write": ("patches_attend_to_latents", "patches_cross_attn_ff"),
}
_ATTENTION = {
    "norm.weight": "norm.gamma",
    "context_norm.weight": "norm_context.gamma",
    "query.weight": "to_q.weight",
    "key_value.weight": "to_kv.weight",
    "out.weight": "to_out.weight",
}


def to_official(name: str, num_blocks: int) -> str:
    """Returns the official name of a tensor of `Fit`. Raises KeyError for one that the official model has not."""
    if name in _TOP:
        return _TOP[name]
    stem, _, leaf = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{leaf}"
    if match := re.fullmatch(r"self_conditioning\.0\.(.+)", name):
        return f"self_conditioning_latents_projection.0.{_feed_forward(match[1], dropout=False)}"
    if match := re.fullmatch(r"last\.(\d+)\.(.+)", name):  # the official model has a last block of local layers alone
        return f"blocks.{num_blocks}.local_layers.{match[1]}.{_layer(match[2])}"
    if match := re.fullmatch(r"blocks\.(\d+)\.((?:local|global)_layers\.\d+)\.(.+)", name):
        return f"blocks.{match[1]}.{match[2]}.{_layer(match[3])}"
    if match := re.fullmatch(r"blocks\.(\d+)\.(condition|read|write)\.(attention|feed_forward)\.(.+)", name):
        attention, feed_forward = _CROSS[match[2]]
        if match[3] == "attention":
            return f"blocks.{match[1]}.{attention}.{_ATTENTION[match[4]]}"
        return f"blocks.{match[1]}.{feed_forward}.{_feed_forward(match[4], dropout=False)}"
    raise KeyError(name)


def _layer(name: str) -> str:
    part, _, rest = name.partition(".")
    if part == "attention":
        return f"0.{_ATTENTION[rest]}"
    return f"1.{_feed_forward(rest, dropout=True)}"


def _feed_forward(name: str, dropout: bool) -> str:
    last = 3 if dropout else 2  # dropout counts as an entry of the official nn.Sequential
    return name.replace("norm.weight", "norm.gamma").replace("inner.", "net.0.").replace("out.", f"net.{last}.")


def from_official(tensors: Mapping[str, Tensor], config: FitConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the state of `Fit(config)` from official tensors, and the names that were not used.

    The official layer norms carry a `beta` of zeros, which ours do without. Raises ValueError that names a tensor which
    is missing, has another shape, holds NaN, or is a `beta` that is not zero.
    """
    with torch.device("meta"):
        own = Fit(config).state_dict()
    names = {name: to_official(name, config.num_blocks) for name in own}
    found = take({names[name]: tensor for name, tensor in own.items()}, tensors, "FIT")
    betas = {name.removesuffix("gamma") + "beta" for name in found if name.endswith(".gamma")} & set(tensors)
    for beta in sorted(betas):
        if bool(tensors[beta].any()):
            raise ValueError(f"official FIT: {beta} is not zero, but the official model never trains it")
    return {name: found[names[name]] for name in own}, sorted(set(tensors) - set(found) - betas)


def config_from_official(
    tensors: Mapping[str, Tensor],
    *,
    size: str = "official",
    channels: int = 64,
    num_groups: int = 8,
    head_width: int = 64,
) -> FitConfig:
    """Reads the config that official weights were made with from their shapes.

    Shapes do not tell the last three; the defaults are those of all official configurations.
    Raises ValueError for other weights.
    """
    patch_width, values = shape_of(tensors, "to_patches.0.weight", "FIT", 2)
    num_patches, _ = shape_of(tensors, "patches_pe", "FIT", 2)
    if values % channels or num_patches % num_groups:
        raise ValueError(
            f"official FIT: {num_patches} patches of {values} values do not divide into {channels} channels and "
            f"{num_groups} groups: give the numbers of the config that it was trained with"
        )
    num_latents, latent_width = shape_of(tensors, "latents", "FIT", 2)
    width, num_datasets = shape_of(tensors, "dataset_id_conditioning_mlp.0.weight", "FIT", 2)
    return FitConfig(
        size=size,
        channels=channels,
        max_frames=num_patches * (values // channels),
        patch_size=values // channels,
        group_size=num_patches // num_groups,
        num_latents=num_latents,
        patch_width=patch_width,
        latent_width=latent_width,
        head_width=head_width,
        num_blocks=count(tensors, "blocks.{}.global_layers.0.0.to_q.weight"),
        local_layers=count(tensors, "blocks.0.local_layers.{}.0.to_q.weight"),
        global_layers=count(tensors, "blocks.0.global_layers.{}.0.to_q.weight"),
        self_conditioning="self_conditioning_latents_projection.1.gamma" in tensors,
        context=ContextConfig(
            width=width,
            num_datasets=num_datasets,
            summary_width=shape_of(tensors, "context_projection_summary_text_embeddings.weight", "FIT", 2)[1],
        ),
    )
