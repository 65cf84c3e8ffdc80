"""A conversion turns the released GenAu's checkpoint into a folder that `GenAu.from_pretrained` reads.

The checkpoint holds the backbone, the VAE, the vocoder and what was frozen beside them. Of that the text branch of the
CLAP that prompts are read with is kept, where its tokenizer is given, for nobody else publishes it; FLAN-T5 comes from
where it was taken from. What the folder lacks is written into it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from autorecap.models import files
from autorecap.models.autocap.convert import clap_text, read_bart_tokenizer
from autorecap.models.checkpoint import read_checkpoint
from autorecap.models.clap import ClapText
from autorecap.models.files import ModelFilesError
from autorecap.models.genau import pretrained
from autorecap.models.genau.backbones.config import SIZES as FIT_SIZES
from autorecap.models.genau.backbones.config import FitConfig
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.official import fit as official_fit
from autorecap.models.genau.official import vae as official_vae
from autorecap.models.genau.official import vocoder as official_vocoder
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.text.conditioning import TextConfig
from autorecap.models.genau.text.t5 import T5Text
from autorecap.models.genau.vae.model import SIZES as VAE_SIZES
from autorecap.models.genau.vae.model import VAEConfig
from autorecap.models.genau.vocoder.model import SIZES as VOCODER_SIZES
from autorecap.models.genau.vocoder.model import VocoderConfig
from autorecap.models.official_tensors import by_reason, under

T5 = "google/flan-t5-large"
"""The released models read prompts with this text encoder, besides CLAP."""
MISSING = "MISSING.txt"
"""This file in a folder says what is missing to read prompts, and where to put it."""

Size = TypeVar("Size", FitConfig, VAEConfig, VocoderConfig)

FIT, FIRST, VOCODER = "model.diffusion_model.", "first_stage_model.", "first_stage_model.vocoder."
_CLAP_MAX_TOKENS = 512  # of a prompt: as the official code has it, against CLAP's own 77

# Why a tensor has no place in our model. What is not listed here is a surprise.
_UNUSED = {
    "tables of the noise schedule, which are computed anew": ("alphas_cumprod", "sqrt_", "logvar", "betas"),
    "the VAE's training alone uses it: discriminator and perceptual loss": ("first_stage_model.loss.",),
    "running averages of the weights, which the released model does without": ("model_ema.",),
    "the CLAP that ranks candidates: `autorecap convert autocap` gives the same one": ("clap.",),
    "frozen text encoders": ("cond_stage_models.",),
}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A conversion reports what became of the checkpoint."""

    config: GenAuConfig
    scale_factor: float
    num_tensors: int  # in the checkpoint
    unused: dict[str, list[str]]  # names of tensors that went nowhere, by the reason; "" where nobody knows one
    beside: tuple[str, ...]  # what else the file holds, none of which was read
    missing: tuple[str, ...]  # what the folder lacks to read prompts, and how to come by it


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    t5: str | Path | None = None,
    clap: str | Path | None = None,
    tokenizer: str | Path | None = None,
    num_groups: int = 8,
    head_width: int = 64,
) -> Conversion:
    """Writes `out` (config.json, model.safetensors, t5/, clap/) from an official checkpoint.

    `t5`, `clap`: folders or hub ids of the text encoders, to be put in. `tokenizer`: RoBERTa's, which is BART's: with
    it, and without `clap`, the checkpoint's own CLAP is put in. `num_groups`, `head_width`: what shapes do not tell;
    all official configurations have the defaults.
    Raises ModelFilesError, and OSError where `out` cannot be written; nothing is written before all is known to fit.
    """
    found = read_checkpoint(checkpoint)
    try:
        config, state, used = _parts(found.tensors, num_groups, head_width)
    except ValueError as error:
        raise ModelFilesError(f"{checkpoint}: {error}. {_describe(found.tensors)}".rstrip(". ")) from error
    own_clap = {name: tensor for name, tensor in found.tensors.items() if name.startswith("cond_stage_models.")}
    clap_model = _clap_encoder(own_clap, clap, tokenizer) if config.text.clap else None
    t5_model = T5Text.from_pretrained(t5) if t5 is not None and config.text.has_t5 else None
    if clap_model is not None and clap is None:
        used |= {name for name in own_clap if _is_text_branch(name)}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_tensors(folder / files.WEIGHTS, state)
    if clap_model is not None:
        clap_model.save_pretrained(folder / pretrained.CLAP_FOLDER)
    if t5_model is not None:
        t5_model.save_pretrained(folder / pretrained.T5_FOLDER)
    files.write_config(folder / files.CONFIG, pretrained.FORMAT, config.to_dict())
    missing = _missing(config, has_clap=clap_model is not None, has_t5=t5_model is not None)
    if missing:
        (folder / MISSING).write_text("\n".join(("To read prompts, this model lacks:", *missing, "")), "utf-8")
    return Conversion(
        config=config,
        scale_factor=float(state["scale_factor"]),
        num_tensors=len(found.tensors),
        unused=by_reason((name for name in found.tensors if name not in used), _why_unused),
        beside=found.beside,
        missing=missing,
    )


def _parts(
    tensors: Mapping[str, Tensor], num_groups: int, head_width: int
) -> tuple[GenAuConfig, dict[str, Tensor], set[str]]:
    """Returns config, tensors of model.safetensors, and the official names that were used. Raises ValueError."""
    if "scale_factor" not in tensors or tensors["scale_factor"].numel() != 1:
        raise ValueError("official GenAu: scale_factor is missing")
    scale_factor = tensors["scale_factor"].float().reshape(())
    if not (bool(torch.isfinite(scale_factor)) and float(scale_factor) > 0):
        raise ValueError(f"official GenAu: scale_factor is {float(scale_factor)}, which no training gives")
    by_part = {
        FIT: under(FIT, tensors),
        VOCODER: under(VOCODER, tensors),
        FIRST: {name: t for name, t in under(FIRST, tensors).items() if not name.startswith(("vocoder.", "loss."))},
    }
    vae_config = _named(official_vae.config_from_official(by_part[FIRST]), VAE_SIZES)
    vocoder_config = _named(official_vocoder.config_from_official(by_part[VOCODER]), VOCODER_SIZES)
    fit_config = official_fit.config_from_official(
        by_part[FIT], channels=vae_config.channels, num_groups=num_groups, head_width=head_width
    )
    fit_config = _named(fit_config, FIT_SIZES)
    state: dict[str, Tensor] = {"scale_factor": scale_factor}
    used = {"scale_factor"}
    for prefix, ours, (own, unused) in (
        (FIT, "backbone", official_fit.from_official(by_part[FIT], fit_config)),
        (FIRST, "vae", official_vae.from_official(by_part[FIRST], vae_config)),
        (VOCODER, "vocoder", official_vocoder.from_official(by_part[VOCODER], vocoder_config)),
    ):
        state |= {f"{ours}.{name}": tensor.float() for name, tensor in own.items()}
        used |= {prefix + name for name in by_part[prefix].keys() - set(unused)}
    config = GenAuConfig(
        size=fit_config.size,
        backbone=fit_config,
        vae=vae_config,
        vocoder=vocoder_config,
        text=_text_config(fit_config),
    ).as_released()
    _check_schedule(tensors, config)
    return config, state, used


def _named(config: Size, sizes: Mapping[str, Size]) -> Size:
    """Returns the config with the name of its size, where it is one that has a name."""
    known = (name for name, size in sizes.items() if replace(config, size=name) == size)
    return replace(config, size=next(known, config.size))


def _text_config(fit: FitConfig) -> TextConfig:
    """Tells which text encoders a model of the paper's Table 10 has: CLAP's vector is 512 wide, FLAN-T5's 1,024."""
    width = fit.context.summary_width
    return TextConfig(clap=width != 1_024, t5="none" if width == 512 else "summary")


def _check_schedule(tensors: Mapping[str, Tensor], config: GenAuConfig) -> None:
    if "alphas_cumprod" not in tensors:
        return
    official, own = tensors["alphas_cumprod"].double(), Diffusion(config.diffusion).alphas_cumprod
    if official.shape != own.shape or not torch.allclose(official, own, rtol=1e-4, atol=0):
        raise ValueError("official GenAu: alphas_cumprod is of another noise schedule than the released models'")


def _clap_encoder(own: Mapping[str, Tensor], path: str | Path | None, tokenizer: str | Path | None) -> ClapText | None:
    """Loads CLAP's text branch: from a folder, or the checkpoint's own where there is a tokenizer for it."""
    if path is not None:
        return ClapText.from_pretrained(path)
    branch = {name[name.index("text_") :]: tensor for name, tensor in own.items() if _is_text_branch(name)}
    if tokenizer is None or not branch:
        return None
    return clap_text(branch, read_bart_tokenizer(tokenizer), max_tokens=_CLAP_MAX_TOKENS)


def _is_text_branch(name: str) -> bool:
    return "text_branch." in name or ".text_projection." in name


def _missing(config: GenAuConfig, *, has_clap: bool, has_t5: bool) -> tuple[str, ...]:
    out = []
    if config.text.has_t5 and not has_t5:
        out.append(
            f"{pretrained.T5_FOLDER}/: config.json, model.safetensors and tokenizer.json of {T5}. "
            "Convert again with --t5, or download it to there"
        )
    if config.text.clap and not has_clap:
        out.append(
            f"{pretrained.CLAP_FOLDER}/: the text branch of its CLAP. Convert again with --tokenizer (of "
            "facebook/bart-base, which is RoBERTa's) to take it from the checkpoint, or with --clap"
        )
    return tuple(out)


def _describe(tensors: Mapping[str, Tensor]) -> str:
    """Says whose weights these seem to be, where they are not GenAu's, and what to do."""
    if any(name.startswith(FIT) for name in tensors):
        return "The file is incomplete, or of another configuration"
    if any(name.startswith(("audio_Qformer.", "audio_query_tokens", "enc_to_dec_proj.")) for name in tensors):
        return "These look like weights of AutoCap, the captioner: `autorecap convert autocap` reads them"
    if any(name.startswith(("encoder.conv_in.", "first_stage_model.")) for name in tensors):
        return "These look like weights of the VAE alone, of which GenAu is more"
    if any(name.startswith(("conv_pre.", "ups.")) for name in tensors):
        return "These look like weights of the vocoder alone, of which GenAu is more"
    return f"These are not GenAu's weights: the first of {len(tensors)} is {next(iter(tensors))!r:.80}"


def _why_unused(name: str) -> str:
    return next((why for why, prefixes in _UNUSED.items() if name.startswith(prefixes)), "")
