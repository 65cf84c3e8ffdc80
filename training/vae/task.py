"""Training task of the 1D-VAE: turns clips into log-mels, and computes the losses of VAE and discriminator.

The schedule is the released VAE's (section 3.3; `autorecap.models.genau.vae.loss`): the discriminator steps first, then
the VAE; both see the same reconstruction. Clips are padded with silence to the longest length, as released.

Shape suffixes: B batch, S samples, C channels, N latent frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autorecap.base.settings import FILE, Section, check, setting
from autorecap.dataset.reading.examples import Examples
from autorecap.dataset.reading.random_draws import TrainingDraw, torch_generator
from autorecap.models.genau.audio import SAMPLES_PER_LATENT, latent_frames, log_mel
from autorecap.models.genau.vae.loss import PERCEPTUAL, VAELoss, VAELossConfig
from autorecap.models.genau.vae.model import VAE
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.training.generator_inputs import load_clips, padded
from autorecap.training.loop.task import Player, Scored

DISCRIMINATOR, VAE_PLAYER = "discriminator", "vae"


@dataclass(frozen=True, kw_only=True)
class VAETaskConfig(Section, name="task"):
    """Settings of the VAE's loss. The defaults are those released, but for a perceptual term without weights."""

    seconds: float = setting(
        10.24, "Length of clips: longer ones are cut to a part, shorter ones end in silence.", results=True, gt=0
    )
    perceptual: str = setting(
        "multiscale",
        "multiscale, none, or lpips, as released, which needs trained weights.",
        results=True,
        choices=tuple(PERCEPTUAL),
    )
    lpips: tuple[str, ...] = setting(
        (),
        "Files with the weights of lpips: an official VAE checkpoint, or torchvision's VGG-16 and the weights per "
        "channel of the lpips package.",
        path=FILE,
    )
    perceptual_weight: float = setting(
        1.0, "Weight of the perceptual term, which is added to the L1 of every value.", results=True, ge=0
    )
    kl_weight: float = setting(1_000.0, "Weight of the KL divergence per latent value.", results=True, ge=0)
    disc_weight: float = setting(0.5, "Weight of the discriminator's term.", results=True, ge=0)
    disc_start: int = setting(
        10_000, "Steps without a discriminator. Official: 20,001, which count each batch twice.", results=True, ge=0
    )
    disc_width: int = setting(64, "Width of the discriminator's first layer.", results=True, ge=1)
    disc_layers: int = setting(3, "How often it halves the image.", results=True, ge=1)

    def validate(self) -> None:
        check(
            bool(self.lpips) == (self.perceptual == "lpips"),
            "task.lpips",
            f"expected {'files' if self.perceptual == 'lpips' else 'no file'} with task.perceptual={self.perceptual}, "
            f"found {len(self.lpips)}: lpips needs the files with its weights, and nothing else does",
        )

    @property
    def loss(self) -> VAELossConfig:
        return VAELossConfig(
            perceptual=self.perceptual,
            perceptual_weight=self.perceptual_weight,
            kl_weight=self.kl_weight,
            disc_weight=self.disc_weight,
            disc_start=self.disc_start,
            disc_width=self.disc_width,
            disc_layers=self.disc_layers,
        )


class SoundBatch(NamedTuple):
    """The clips of one micro-batch."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    x_BS: Tensor
    noise_BCN: Tensor  # by which the posterior is sampled


class VAELosses(nn.Module):
    """The VAE and its discriminator: called with a batch and a player, they return the loss of that player."""

    def __init__(self, vae: VAE, config: VAELossConfig, lpips: Lpips | None = None) -> None:
        super().__init__()
        self.vae, self.loss = vae, VAELoss(config, lpips)

    def forward(self, batch: SoundBatch, player: str, step: int) -> Scored:
        mel_BMT = log_mel(batch.x_BS)
        with torch.set_grad_enabled(torch.is_grad_enabled() and player == VAE_PLAYER):
            posterior = self.vae.encode(mel_BMT)
            made_BMT = self.vae.decode(posterior.mean + posterior.std * batch.noise_BCN).float()
        if player == DISCRIMINATOR:
            loss, numbers = self.loss.discriminator_loss(mel_BMT, made_BMT, step)
        else:
            last = self.vae.decoder.conv_out.weight
            loss, numbers = self.loss(mel_BMT, made_BMT, posterior, last, step)
        named = {name: value for name, value in numbers.items() if name not in ("loss", "disc_loss")}
        return Scored(loss, len(batch.names), named)


class VAETask:
    """Task of the VAE, for the loop. lpips: with trained weights, if the settings ask for it"""

    def __init__(
        self, vae: VAE, examples: Examples, config: VAETaskConfig, seed: int = 0, lpips: Lpips | None = None
    ) -> None:
        self.vae, self.examples, self.config, self.seed = vae.requires_grad_(True), examples, config, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # initialises the discriminator
            losses = VAELosses(vae, config.loss, lpips)
        self.module: nn.Module = losses
        discriminator = Player(DISCRIMINATOR, losses.loss.discriminator, config.disc_start)
        self.players: Sequence[Player] = (discriminator, Player(VAE_PLAYER, vae))

    def batch(self, positions: range) -> SoundBatch:
        """Return the clips at these positions, on the CPU. Unreadable ones are left out and named."""
        return self.batch_of(self.examples, positions, self.seed)

    def batch_of(self, examples: Examples, positions: Sequence[int], seed: int) -> SoundBatch:
        """Return a batch of another list of examples, drawn by another seed, such as those of validation."""
        frames = latent_frames(self.config.seconds)
        clips, unreadable = load_clips(examples, positions, frames)
        x_BS = padded([clip.sound for clip in clips if isinstance(clip.sound, Tensor)], frames * SAMPLES_PER_LATENT)
        channels = self.vae.config.channels
        noise = [
            torch.randn(channels, frames, generator=torch_generator(seed, TrainingDraw.POSTERIOR, c.position))
            for c in clips
        ]
        noise_BCN = torch.stack(noise) if noise else torch.zeros(0, channels, frames)
        return SoundBatch(tuple(clip.example.name for clip in clips), unreadable, x_BS, noise_BCN)

    def to(self, batch: SoundBatch, device: torch.device) -> SoundBatch:
        """Return the batch on a device."""
        x_BS, noise_BCN = (x.to(device, non_blocking=True) for x in batch[2:])
        return batch._replace(x_BS=x_BS, noise_BCN=noise_BCN)
