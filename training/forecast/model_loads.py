"""What a training step of each model asks of a GPU, counted on tensors without data (`plan`)."""

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
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.backbones.unet import UNet
from autorecap.models.genau.config import FitConfig
from autorecap.models.genau.flops import flops
from autorecap.models.genau.model import small_encoders
from autorecap.models.genau.recipe import GenAuConfig
from autorecap.models.genau.vae.model import VAE, VAEConfig
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.models.genau.vocoder.model import Vocoder, VocoderConfig
from autorecap.training.autocap.task import freeze
from autorecap.training.forecast.forecast import Load, count, fake
from autorecap.training.vae.task import DISCRIMINATOR, VAE_PLAYER, SoundBatch, VAELosses, VAETaskConfig
from autorecap.training.vocoder.task import DISCRIMINATORS, VOCODER, PieceBatch, VocoderLosses, VocoderTaskConfig

CAPTION_TOKENS = 20  # a usual caption: what is planned for
TEXT_ENCODERS = {1_024: 341_231_104, 512: 125_302_016}
"""Parameters of FLAN-T5-large's encoder and of CLAP's text branch, by their widths."""
_NAMES = ("clip",)
_LATE = 10**9  # a step at which every discriminator is at work


def genau_load(config: GenAuConfig, samples: int, *, bf16: bool, from_sound: bool = True) -> Load:
    """The backbone on clips of its longest duration. `from_sound`: VAE and text encoders are at work beside it."""
    backbone = config.backbone
    context = backbone.context
    with torch.device("meta"):  # costs nothing, while on fake tensors every layer is drawn
        model = Fit(backbone) if isinstance(backbone, FitConfig) else UNet(backbone)
        frozen = sum(p.numel() for p in VAE(config.vae).parameters()) + _text_size(config) if from_sound else 0
    with _fake(model):
        x_BCT = torch.randn(samples, backbone.channels, backbone.max_frames)
        text = Text(torch.randn(samples, context.summary_width) if context.summary_width else None)
        if context.word_width:
            words = torch.randn(samples, CAPTION_TOKENS, context.word_width)
            text = text._replace(words_BNW=words, word_mask_BN=torch.ones(samples, CAPTION_TOKENS, dtype=torch.bool))
        ids_B = torch.zeros(samples, dtype=torch.long)

        def loss() -> Tensor:
            return (model(x_BCT, ids_B, text, ids_B).eps - x_BCT).square().mean()

        load = count(f"GenAu {config.size}", model, [loss], samples, bf16=bf16)
    if isinstance(backbone, FitConfig):
        num_words = CAPTION_TOKENS if context.word_width else 0
        exact = flops(backbone, batch=samples, num_words=num_words, backward=True)
        load = replace(load, flops=exact, flops_are="exact")
    return replace(load, frozen=load.frozen + frozen)


def vae_load(config: VAEConfig, task: VAETaskConfig, samples: int, *, bf16: bool) -> Load:
    """The VAE and its discriminator, on clips of the length that they are trained on.

    Without what the discriminator says to the VAE, which is small: a ratio of gradients cannot be counted through.
    """
    with torch.device("meta"):
        lpips = Lpips() if task.perceptual == "lpips" else None
        module = VAELosses(VAE(config), replace(task.loss, disc_start=1), lpips)
    frames = latent_frames(task.seconds)
    with _fake(module):
        noise_BCN = torch.randn(samples, config.channels, frames)
        batch = SoundBatch(_NAMES * samples, (), torch.randn(samples, frames * SAMPLES_PER_LATENT), noise_BCN)
        turns = [partial(_turn, module, batch, *turn) for turn in ((DISCRIMINATOR, _LATE), (VAE_PLAYER, 0))]
        return count(f"VAE {config.size} and its discriminator", module, turns, samples, bf16=bf16)


def vocoder_load(config: VocoderConfig, task: VocoderTaskConfig, samples: int, *, bf16: bool) -> Load:
    """The vocoder and its discriminators, all at work."""
    with torch.device("meta"):
        module = VocoderLosses(Vocoder(config), task)
    with _fake(module):
        batch = PieceBatch(_NAMES * samples, (), torch.randn(samples, task.segment_frames * MEL.hop))
        turns = [partial(_turn, module, batch, player, _LATE) for player in (DISCRIMINATORS, VOCODER)]
        return count(f"vocoder {config.size} and its discriminators", module, turns, samples, bf16=bf16)


def _turn(module: nn.Module, batch: SoundBatch | PieceBatch, player: str, step: int) -> Tensor:
    return module(batch, player, step).loss


def autocap_load(
    config: AutoCapConfig, tokenizer: CaptionTokenizer, frozen: tuple[str, ...], samples: int, *, bf16: bool
) -> Load:
    """The captioner on clips of its window with usual captions. `frozen`: as in the settings of its training."""
    with torch.device("meta"):
        model = AutoCap(config, tokenizer)
        freeze(model, frozen)
    with _fake(model):
        mels = AudioFeatures(*(_mel(samples, config.num_samples, each.mel) for each in (config.htsat, config.clap)))
        metadata_BT = torch.ones(samples, config.max_metadata_tokens, dtype=torch.long)
        labels_BL = torch.ones(samples, CAPTION_TOKENS, dtype=torch.long)

        def loss() -> Tensor:
            heard = model.hear(mels)
            logits_BLV = model(heard, metadata_BT, torch.ones_like(metadata_BT), labels_BL)
            return caption_loss(logits_BLV.float(), labels_BL, 0.1)

        return count(f"AutoCap {config.size}", model, [loss], samples, bf16=bf16)


def _text_size(config: GenAuConfig) -> int:
    """Parameters of the text encoders that go with the widths of a context."""
    if config.size == "demo":
        return sum(p.numel() for p in small_encoders(config).parameters())
    t5, clap = TEXT_ENCODERS[1_024], TEXT_ENCODERS[512]
    return config.text.has_t5 * t5 + config.text.clap * clap


@contextmanager
def _fake(module: nn.Module) -> Iterator[None]:
    """Within, tensors have no data, and the module (made on `meta`, which costs nothing) is of them."""
    log_mel(torch.zeros(1, 16 * MEL.hop))  # its tables are kept for the process: they must be real ones
    with fake():
        module.to_empty(device="cpu")
        yield


def _mel(samples: int, num_samples: int, mel: MelConfig) -> Tensor:
    return torch.randn(samples, num_samples // mel.hop + 1, mel.num_mels)
