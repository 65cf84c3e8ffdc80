"""Load of a training step of each model on one GPU (`step_load`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from autorecap.models.audio import MelConfig
from autorecap.models.autocap import AutoCap, AutoCapConfig, CaptionTokenizer
from autorecap.models.autocap.model import AudioFeatures, caption_loss
from autorecap.models.genau.audio import MEL, SAMPLES_PER_LATENT, latent_frames, log_mel
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.backbones.unet import UNet
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.flops import flops
from autorecap.models.genau.model import small_encoders
from autorecap.models.genau.vae.model import VAE, VAEConfig
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.models.genau.vocoder.model import Vocoder, VocoderConfig
from autorecap.training.autocap.task import AutoCapTaskConfig, freeze
from autorecap.training.forecast.step_load import StepLoad, count_load, fake
from autorecap.training.loop.task import Scored
from autorecap.training.vae.task import DISCRIMINATOR, VAE_PLAYER, SoundBatch, VAELosses, VAETaskConfig
from autorecap.training.vocoder.task import DISCRIMINATORS, VOCODER, PieceBatch, VocoderLosses, VocoderTaskConfig

CAPTION_TOKENS = 20  # of a usual caption
T5_SIZE, CLAP_TEXT_SIZE = 341_231_104, 125_302_016  # parameters of FLAN-T5-large's encoder, of CLAP's text branch
_NAMES = ("clip",)
_LATE = 10**9  # a step at which every discriminator plays


def genau_load(config: GenAuConfig, num_clips: int, *, bf16: bool, from_sound: bool = True) -> StepLoad:
    """Return the load of the backbone on clips of its longest duration.

    from_sound: VAE and text encoders are in memory as well, since training reads audio and not latents
    """
    backbone = config.backbone
    context = backbone.context
    with torch.device("meta"):  # costs nothing; as fake tensors every layer would be initialised
        model = Fit(backbone) if isinstance(backbone, FitConfig) else UNet(backbone)
        num_frozen = sum(p.numel() for p in VAE(config.vae).parameters()) + _text_size(config) if from_sound else 0
    with _fake(model):
        x_BCT = torch.randn(num_clips, backbone.channels, backbone.max_frames)
        text = Text(torch.randn(num_clips, context.summary_width) if context.summary_width else None)
        if context.word_width:
            words = torch.randn(num_clips, CAPTION_TOKENS, context.word_width)
            text = text._replace(words_BNW=words, word_mask_BN=torch.ones(num_clips, CAPTION_TOKENS, dtype=torch.bool))
        ids_B = torch.zeros(num_clips, dtype=torch.long)

        def loss() -> Tensor:
            eps: Tensor = model(x_BCT, ids_B, text, ids_B).eps
            return (eps - x_BCT).square().mean()

        load = count_load(f"GenAu {config.size}", model, [loss], num_clips, bf16=bf16)
    if isinstance(backbone, FitConfig):
        num_words = CAPTION_TOKENS if context.word_width else 0
        exact = flops(backbone, batch=num_clips, num_words=num_words, backward=True)
        load = replace(load, flops=exact, flops_origin="exact")
    return replace(load, num_frozen=load.num_frozen + num_frozen)


def vae_load(config: VAEConfig, task: VAETaskConfig, num_clips: int, *, bf16: bool) -> StepLoad:
    """Return the load of the VAE and its discriminator, on clips of the length that they are trained on.

    The discriminator's part of the VAE's loss is left out: it is small, and its weight, a ratio of gradients, cannot be
    counted.
    """
    with torch.device("meta"):
        lpips = Lpips() if task.perceptual == "lpips" else None
        module = VAELosses(VAE(config), replace(task.loss, disc_start=1), lpips)
    frames = latent_frames(task.seconds)
    with _fake(module):
        noise_BCN = torch.randn(num_clips, config.channels, frames)
        batch = SoundBatch(_NAMES * num_clips, (), torch.randn(num_clips, frames * SAMPLES_PER_LATENT), noise_BCN)
        turns = [partial(_turn, module, batch, *turn) for turn in ((DISCRIMINATOR, _LATE), (VAE_PLAYER, 0))]
        return count_load(f"VAE {config.size} and its discriminator", module, turns, num_clips, bf16=bf16)


def vocoder_load(config: VocoderConfig, task: VocoderTaskConfig, num_clips: int, *, bf16: bool) -> StepLoad:
    """Return the load of the vocoder and its discriminators, all of which play."""
    with torch.device("meta"):
        module = VocoderLosses(Vocoder(config), task)
    with _fake(module):
        batch = PieceBatch(_NAMES * num_clips, (), torch.randn(num_clips, task.segment_frames * MEL.hop))
        turns = [partial(_turn, module, batch, player, _LATE) for player in (DISCRIMINATORS, VOCODER)]
        return count_load(f"vocoder {config.size} and its discriminators", module, turns, num_clips, bf16=bf16)


def _turn(module: nn.Module, batch: SoundBatch | PieceBatch, player: str, step: int) -> Tensor:
    scored: Scored = module(batch, player, step)
    return scored.loss


def autocap_load(
    config: AutoCapConfig, tokenizer: CaptionTokenizer, frozen: tuple[str, ...], num_clips: int, *, bf16: bool
) -> StepLoad:
    """Return the load of the captioner on clips of its window with usual captions. frozen: as `task.frozen`"""
    with torch.device("meta"):
        model = AutoCap(config, tokenizer)
        freeze(model, frozen)
    with _fake(model):
        mels = AudioFeatures(*(_mel(num_clips, config.num_samples, each.mel) for each in (config.htsat, config.clap)))
        metadata_BT = torch.ones(num_clips, config.max_metadata_tokens, dtype=torch.long)
        labels_BL = torch.ones(num_clips, CAPTION_TOKENS, dtype=torch.long)

        def loss() -> Tensor:
            heard = model.hear(mels)
            logits_BLV = model(heard, metadata_BT, torch.ones_like(metadata_BT), labels_BL)
            return caption_loss(logits_BLV.float(), labels_BL, AutoCapTaskConfig().label_smoothing)

        return count_load(f"AutoCap {config.size}", model, [loss], num_clips, bf16=bf16)


def _text_size(config: GenAuConfig) -> int:
    """Return the number of parameters of the text encoders of a model."""
    if config.has_small_text:
        return sum(p.numel() for p in small_encoders(config).parameters())
    return config.text.has_t5 * T5_SIZE + config.text.clap * CLAP_TEXT_SIZE


@contextmanager
def _fake(module: nn.Module) -> Iterator[None]:
    """Within, tensors have no data, and neither has the module, which was made on `meta` (that costs nothing)."""
    log_mel(torch.zeros(1, 16 * MEL.hop))  # its tables are cached for the process: they must have data
    with fake():
        module.to_empty(device="cpu")
        yield


def _mel(num_clips: int, num_samples: int, mel: MelConfig) -> Tensor:
    return torch.randn(num_clips, num_samples // mel.hop + 1, mel.num_mels)
