"""What a training step of each model asks of a GPU, counted on tensors without data (`plan`)."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.audio import MelConfig
from models.autocap import AutoCap, AutoCapConfig, CaptionTokenizer
from models.autocap.model import AudioFeatures, caption_loss
from models.genau.audio import MEL
from models.genau.backbone import Text
from models.genau.config import FitConfig
from models.genau.fit import Fit
from models.genau.flops import flops
from models.genau.recipe import GenAuConfig
from models.genau.unet import UNet
from models.genau.vae import VAE, VAEConfig
from models.genau.vocoder import Vocoder, VocoderConfig
from pipeline.training.plan import Load, count, fake

CAPTION_TOKENS = 20  # a usual caption: what is planned for


def genau_load(config: GenAuConfig, samples: int, *, bf16: bool, from_sound: bool = True, frozen: int = 0) -> Load:
    """The backbone on clips of its longest duration. `from_sound`: the VAE encodes in the same process.

    `frozen`: parameters of the text encoders, where texts are encoded in the same process.
    """
    backbone = config.backbone
    context = backbone.context
    with torch.device("meta"):  # costs nothing, while on fake tensors every layer is drawn
        model = Fit(backbone) if isinstance(backbone, FitConfig) else UNet(backbone)
        if from_sound:
            frozen += sum(p.numel() for p in VAE(config.vae).parameters())
    with fake():
        model.to_empty(device="cpu")
        x_BCT = torch.randn(samples, backbone.channels, backbone.max_frames)
        text = Text(torch.randn(samples, context.summary_width) if context.summary_width else None)
        if context.word_width:
            words = torch.randn(samples, CAPTION_TOKENS, context.word_width)
            text = text._replace(words_BNW=words, word_mask_BN=torch.ones(samples, CAPTION_TOKENS, dtype=torch.bool))
        ids_B = torch.zeros(samples, dtype=torch.long)

        def loss() -> Tensor:
            return (model(x_BCT, ids_B, text, ids_B).eps - x_BCT).square().mean()

        load = count(f"GenAu {config.size}", model, loss, samples, bf16=bf16)
    if isinstance(backbone, FitConfig):
        num_words = CAPTION_TOKENS if context.word_width else 0
        exact = flops(backbone, batch=samples, num_words=num_words, backward=True)
        load = replace(load, flops=exact, flops_are="exact")
    return replace(load, frozen=load.frozen + frozen)


def vae_load(config: VAEConfig, frames: int, samples: int, *, bf16: bool) -> Load:
    """Encoder, a sample of the posterior, decoder, and the L1. `frames`: of the log-mel."""
    with torch.device("meta"):
        model = VAE(config)
    with fake():
        model.to_empty(device="cpu")
        mel_BMT = torch.randn(samples, config.num_mels, frames)

        def loss() -> Tensor:
            posterior = model.encode(mel_BMT)
            return F.l1_loss(model.decode(posterior.sample()), mel_BMT) + posterior.kl().mean()

        return count(f"VAE {config.size}", model, loss, samples, bf16=bf16)


def vocoder_load(config: VocoderConfig, frames: int, samples: int, *, bf16: bool) -> Load:
    """The generator, and the L1 of its log-mel."""
    with torch.device("meta"):
        model = Vocoder(config)
    with fake():
        model.to_empty(device="cpu")
        mel_BMT = torch.randn(samples, config.num_mels, frames)

        def loss() -> Tensor:
            x_BS = model(mel_BMT)
            spectrum = torch.stft(
                x_BS, MEL.window, MEL.hop, window=torch.ones(MEL.window), return_complex=True, center=False
            )
            return torch.view_as_real(spectrum).square().mean()

        return count(f"vocoder {config.size}", model, loss, samples, bf16=bf16)


def autocap_load(
    config: AutoCapConfig, tokenizer: CaptionTokenizer, frozen: tuple[str, ...], samples: int, *, bf16: bool
) -> Load:
    """The captioner on clips of its window with usual captions. `frozen`: as in the settings of its training."""
    from pipeline.training.autocap_task import freeze

    with torch.device("meta"):
        model = AutoCap(config, tokenizer)
        freeze(model, frozen)
    with fake():
        model.to_empty(device="cpu")
        mels = AudioFeatures(*(_mel(samples, config.num_samples, each.mel) for each in (config.htsat, config.clap)))
        metadata_BT = torch.ones(samples, config.max_metadata_tokens, dtype=torch.long)
        labels_BL = torch.ones(samples, CAPTION_TOKENS, dtype=torch.long)

        def loss() -> Tensor:
            heard = model.hear(mels)
            logits_BLV = model(heard, metadata_BT, torch.ones_like(metadata_BT), labels_BL)
            return caption_loss(logits_BLV.float(), labels_BL, 0.1)

        return count(f"AutoCap {config.size}", model, loss, samples, bf16=bf16)


def _mel(samples: int, num_samples: int, mel: MelConfig) -> Tensor:
    return torch.randn(samples, num_samples // mel.hop + 1, mel.num_mels)
