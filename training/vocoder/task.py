"""Training task of the vocoder, as HiFi-GAN is trained (Kong et al., 2020): turns clips into short pieces, and computes
the losses of vocoder and discriminators.

The discriminators step first, then the vocoder, whose loss has three terms: least squares against the discriminators,
the distance of their features, and the L1 distance of log-mels.

Shape suffixes: B batch, S samples, M mel bands, T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.examples import Examples
from autorecap.dataset.reading.random_draws import TrainingDraw, torch_generator
from autorecap.models.genau.audio import MEL, SAMPLES_PER_LATENT, crop, latent_frames, log_mel
from autorecap.models.genau.vocoder.discriminators import (
    DiscriminatorsConfig,
    VocoderDiscriminators,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from autorecap.models.genau.vocoder.model import Vocoder
from autorecap.training.generator_inputs import load_clips, padded
from autorecap.training.loop.task import Player, Scored

DISCRIMINATORS, VOCODER = "discriminators", "vocoder"


@dataclass(frozen=True, kw_only=True)
class VocoderTaskConfig(Section, name="task"):
    """Settings of the vocoder's loss. The defaults are HiFi-GAN's."""

    seconds: float = setting(10.24, "Length of the clips from which pieces are cut.", results=True, gt=0)
    segment_frames: int = setting(
        52, "Length of a piece in frames of 10 ms; HiFi-GAN's 8,192 samples are 51.2.", results=True, ge=8
    )
    mel_weight: float = setting(45.0, "Weight of the L1 distance of log-mels.", results=True, ge=0)
    feature_weight: float = setting(2.0, "Weight of the distance of the discriminators' features.", results=True, ge=0)
    disc_start: int = setting(0, "Steps without discriminators.", results=True, ge=0)
    disc_periods: tuple[int, ...] = setting(
        (2, 3, 5, 7, 11), "Periods of the period discriminators.", results=True, ge=2
    )
    disc_scales: int = setting(3, "Number of discriminators of the waveform at several scales.", results=True, ge=1)
    disc_width: int = setting(128, "Width of their first layer, a multiple of 16.", results=True, ge=16)

    @property
    def discriminators(self) -> DiscriminatorsConfig:
        return DiscriminatorsConfig(periods=self.disc_periods, scales=self.disc_scales, width=self.disc_width)


class PieceBatch(NamedTuple):
    """The pieces of one micro-batch."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    x_BS: Tensor


class VocoderLosses(nn.Module):
    """The vocoder and its discriminators: called with a batch and a player, they return the loss of that player."""

    def __init__(self, vocoder: Vocoder, config: VocoderTaskConfig) -> None:
        super().__init__()
        self.vocoder, self.config = vocoder, config
        self.discriminators = VocoderDiscriminators(config.discriminators)

    def forward(self, batch: PieceBatch, player: str, step: int) -> Scored:
        x_BS = batch.x_BS
        mel_BMT = log_mel(x_BS)
        with torch.set_grad_enabled(torch.is_grad_enabled() and player == VOCODER):
            made_BS = self.vocoder(mel_BMT)
        count = len(batch.names)
        if player == DISCRIMINATORS:
            return Scored(discriminator_loss(self.discriminators(x_BS), self.discriminators(made_BS)), count, {})
        mel = (log_mel(made_BS) - mel_BMT).abs().mean()
        loss, numbers = self.config.mel_weight * mel, {"mel_loss": mel.detach()}
        if step >= self.config.disc_start:
            self.discriminators.requires_grad_(False)  # they learn from their own loss alone
            with torch.no_grad():
                real = self.discriminators(x_BS)
            made = self.discriminators(made_BS)
            self.discriminators.requires_grad_(True)
            adversarial, features = adversarial_loss(made), feature_loss(real, made)
            loss = loss + adversarial + self.config.feature_weight * features
            numbers |= {"adversarial": adversarial.detach(), "features": features.detach()}
        return Scored(loss, count, numbers)


class VocoderTask:
    """Task of the vocoder, for the loop."""

    def __init__(self, vocoder: Vocoder, examples: Examples, config: VocoderTaskConfig, seed: int = 0) -> None:
        self.vocoder, self.examples, self.config, self.seed = vocoder.requires_grad_(True), examples, config, seed
        vocoder.add_weight_norm()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # initialises the discriminators
            losses = VocoderLosses(vocoder, config)
        self.module: nn.Module = losses
        discriminators = Player(DISCRIMINATORS, losses.discriminators, config.disc_start)
        self.players: Sequence[Player] = (discriminators, Player(VOCODER, vocoder))

    def batch(self, positions: range) -> PieceBatch:
        """Return pieces of the clips at these positions, on the CPU. Unreadable clips are left out and named."""
        return self.batch_of(self.examples, positions, self.seed)

    def batch_of(self, examples: Examples, positions: Sequence[int], seed: int) -> PieceBatch:
        """Return a batch of another list of examples, drawn by another seed."""
        samples = self.config.segment_frames * MEL.hop
        longest = latent_frames(self.config.seconds)
        clips, unreadable = load_clips(examples, positions, longest)
        pieces = [
            crop(clip.sound, samples, torch_generator(seed, TrainingDraw.PIECE, clip.position))
            for clip in clips
            if isinstance(clip.sound, Tensor)
        ]
        return PieceBatch(tuple(clip.example.name for clip in clips), unreadable, padded(pieces, samples))

    def whole(self, examples: Examples, positions: Sequence[int]) -> PieceBatch:
        """Return whole clips, for validation and samples."""
        longest = latent_frames(self.config.seconds)
        clips, unreadable = load_clips(examples, positions, longest)
        waves = [clip.sound for clip in clips if isinstance(clip.sound, Tensor)]
        return PieceBatch(
            tuple(clip.example.name for clip in clips), unreadable, padded(waves, longest * SAMPLES_PER_LATENT)
        )

    def to(self, batch: PieceBatch, device: torch.device) -> PieceBatch:
        """Return the batch on a device."""
        return batch._replace(x_BS=batch.x_BS.to(device, non_blocking=True))
