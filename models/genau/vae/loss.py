"""The VAE is trained to reconstruct, to look real, and to keep its latents near a normal distribution.

    loss = sum over values of (L1 + perceptual) / batch + kl_weight * KL + disc_weight * ratio * (-D(reconstruction))

The loss is that of Esser et al. (2021), whom the paper follows (section 3.3), with the released VAE's weights. Mind the
units: the reconstruction is a sum over a clip's values, the KL a mean over its latent's, which does not grow with the
clip.

A training step makes one reconstruction and steps on both losses of it, the discriminator first:

    made, posterior = vae(mel)
    loss, numbers = vae_loss.discriminator_loss(mel, made, batches)  # steps vae_loss.discriminator
    loss, numbers = vae_loss(mel, made, posterior, vae.decoder.conv_out.weight, batches)  # steps vae

Shape suffixes: B batch, M mel bands, T frames.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models.genau.norms import at_least_float32
from autorecap.models.genau.vae.discriminator import PatchDiscriminator
from autorecap.models.genau.vae.model import Posterior
from autorecap.models.genau.vae.perceptual import Lpips, Multiscale

PERCEPTUAL = ("multiscale", "lpips", "none")
MAX_RATIO = 1e4  # of gradients


@dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """A VAELossConfig weighs the terms. The defaults are the released VAE's, except for the perceptual term."""

    perceptual: str = "multiscale"  # or "lpips", as released, which needs trained weights; or "none"
    perceptual_weight: float = 1.0  # added to the L1 of every value
    kl_weight: float = 1_000.0  # of the KL per latent value: for 10.24 s of 64 channels, 0.061 of the summed KL
    disc_weight: float = 0.5
    disc_start: int = 10_000  # batches without a discriminator. Official: 20,001 steps, which count each batch twice
    disc_width: int = 64
    disc_layers: int = 3

    def __post_init__(self) -> None:
        if self.perceptual not in PERCEPTUAL:
            raise ValueError(f"vae loss: perceptual is {self.perceptual!r}: write one of {', '.join(PERCEPTUAL)}")
        for name in ("perceptual_weight", "kl_weight", "disc_weight", "disc_start"):
            if getattr(self, name) < 0:
                raise ValueError(f"vae loss: {name} is {getattr(self, name)}: write 0 or more")


class VAELoss(nn.Module):
    """A VAELoss computes the loss of the VAE, and that of its discriminator, the only part of it that is trained.

    `lpips`: with trained weights, where the config asks for it. Raises ValueError where it does and none is given.
    """

    def __init__(self, config: VAELossConfig, lpips: Lpips | None = None) -> None:
        super().__init__()
        if config.perceptual == "lpips" and lpips is None:
            raise ValueError(
                "vae loss: perceptual is 'lpips', which needs trained weights: take them from an official VAE "
                "checkpoint, or write 'multiscale', which needs none"
            )
        self.config = config
        self.perceptual_loss = {"lpips": lpips, "multiscale": Multiscale(), "none": None}[config.perceptual]
        self.discriminator = PatchDiscriminator(config.disc_width, config.disc_layers)

    def forward(
        self, mel_BMT: Tensor, made_BMT: Tensor, posterior: Posterior, last_layer: Tensor, batches: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns what the VAE minimises, and its parts to log.

        `made_BMT`: the reconstruction. `last_layer`: the decoder's last weight, at which gradients are compared.
        `batches`: trained on so far; decides whether the discriminator has its say.
        It has none where no gradients are computed, as its weight is a ratio of gradients.
        The loss leaves no gradients at the discriminator.
        """
        config = self.config
        real, made = as_image(mel_BMT), as_image(made_BMT)
        l1 = F.l1_loss(made, real)
        perceptual = l1.new_zeros(()) if self.perceptual_loss is None else self.perceptual_loss(real, made).mean()
        reconstruction = (l1 + config.perceptual_weight * perceptual) * real[0].numel()
        kl = posterior.kl().mean()
        loss = reconstruction + config.kl_weight * kl
        numbers = {"l1": l1, "perceptual": perceptual, "reconstruction": reconstruction, "kl": kl}
        if batches >= config.disc_start and torch.is_grad_enabled():
            self.discriminator.requires_grad_(False)  # it learns by its own loss
            adversarial = -self.discriminator(made).mean()
            self.discriminator.requires_grad_(True)
            ratio = gradient_ratio(reconstruction, adversarial, last_layer)
            loss = loss + config.disc_weight * ratio * adversarial
            numbers |= {"adversarial": adversarial, "ratio": ratio}
        return loss, {name: value.detach() for name, value in {"loss": loss, **numbers}.items()}

    def discriminator_loss(self, mel_BMT: Tensor, made_BMT: Tensor, batches: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns what the discriminator minimises, and its parts to log: hinge losses of real and reconstructed ones.

        Before `disc_start` batches the loss is 0, without gradients: there is nothing to step.
        """
        if batches < self.config.disc_start:
            zero = mel_BMT.new_zeros(())
            return zero, {"disc_loss": zero}
        real = self.discriminator(as_image(mel_BMT.detach()))
        made = self.discriminator(as_image(made_BMT.detach()))
        loss = 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + made).mean())
        numbers = {"disc_loss": loss, "disc_real": real.mean(), "disc_made": made.mean()}
        return loss, {name: value.detach() for name, value in numbers.items()}


def gradient_ratio(reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Returns how much more the reconstruction pulls at the decoder's last layer than the discriminator: 0-dimensional.

    The adversarial term times it pulls as hard as the reconstruction, whatever the scale of either.
    """
    (pull,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (push,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio: Tensor = pull.norm() / (push.norm() + 1e-4)
    return ratio.clamp(0.0, MAX_RATIO).detach()


def as_image(mel_BMT: Tensor) -> Tensor:
    """Turns a spectrogram into the image that discriminator and LPIPS see. shape (B, M, T) -> (B, 1, T, M)

    It is in fp32, or in fp64 where the spectrogram is.
    """
    return at_least_float32(rearrange(mel_BMT, "b m t -> b 1 t m"))
