"""The diffusion fixes how a latent becomes noise, what the backbone predicts, and its loss (paper, section 3.3).

    x_t = alpha_t * x_0 + sigma_t * noise,      alpha_t^2 + sigma_t^2 = 1,      t from 0 (sound) to 999 (noise)

The schedule that the paper calls linear is linear in the square root of beta, as latent diffusion's.
Shape suffixes: B batch, C channels, T latent frames.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autorecap.models.genau.audio import latent_mask
from autorecap.models.genau.backbones.config import DiffusionConfig


class Diffusion:
    """A diffusion holds the schedule as tables, in float64, and computes with them, on tensors in fp32."""

    def __init__(self, config: DiffusionConfig | None = None) -> None:
        self.config = config = config or DiffusionConfig()
        first, last = math.sqrt(config.beta_start), math.sqrt(config.beta_end)
        with torch.device("cpu"):  # also where a model is made on another device
            roots = torch.linspace(first, last, config.num_timesteps, dtype=torch.float64)
        self.betas = roots.square()
        self.alphas_cumprod = (1 - self.betas).cumprod(0)  # alpha_t^2
        self._coefficients = torch.stack([self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()]).float()
        self._on_device: dict[torch.device, Tensor] = {}

    def draw_timesteps(self, batch: int, generator: torch.Generator) -> Tensor:
        """Draws uniform timesteps on the generator's device. int64, shape (B,)"""
        return torch.randint(self.config.num_timesteps, (batch,), generator=generator, device=generator.device)

    def alpha_sigma(self, timesteps_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the shares of sound and noise at each timestep, each of shape (B, 1, 1)."""
        device = timesteps_B.device
        if device not in self._on_device:  # one transfer per device, and not one per step
            with torch.inference_mode(False):
                self._on_device[device] = self._coefficients.to(device)
        alpha_B, sigma_B = self._on_device[device][:, timesteps_B]
        return alpha_B[:, None, None], sigma_B[:, None, None]

    def q_sample(self, x0_BCT: Tensor, noise_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        """Adds noise to a latent. shape (B, C, T) -> (B, C, T)"""
        alpha, sigma = self.alpha_sigma(timesteps_B)
        return alpha * x0_BCT + sigma * noise_BCT

    def target(self, x0_BCT: Tensor, noise_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        """Returns what the backbone should predict. shape (B, C, T)"""
        match self.config.prediction:
            case "eps":
                return noise_BCT
            case "x0":
                return x0_BCT
        alpha, sigma = self.alpha_sigma(timesteps_B)
        return alpha * noise_BCT - sigma * x0_BCT

    def x0_and_eps(self, output_BCT: Tensor, x_BCT: Tensor, timesteps_B: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the sound and the noise that a backbone's output means, given its input. shape (B, C, T) each"""
        alpha, sigma = self.alpha_sigma(timesteps_B)
        match self.config.prediction:
            case "eps":
                return (x_BCT - sigma * output_BCT) / alpha, output_BCT
            case "x0":
                return output_BCT, (x_BCT - alpha * output_BCT) / sigma
        return alpha * x_BCT - sigma * output_BCT, alpha * output_BCT + sigma * x_BCT

    def loss(
        self,
        output_BCT: Tensor,
        x0_BCT: Tensor,
        noise_BCT: Tensor,
        timesteps_B: Tensor,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        """Returns the squared error of a backbone's output (paper, equation 6), the mean over all that is sound.

        `output_BCT`: `backbone(diffusion.q_sample(...), ...).eps`. `mask_BT`: as backbones take it; None: all is sound.
        """
        target_BCT = self.target(x0_BCT, noise_BCT, timesteps_B)
        error_BT = (output_BCT.float() - target_BCT.float()).square().mean(dim=1)
        if mask_BT is None:
            return error_BT.mean()
        mask_BT = mask_BT.to(error_BT.device, error_BT.dtype, non_blocking=True)
        return (error_BT * mask_BT).sum() / mask_BT.sum()


def pad_latents(latents: Sequence[Tensor], multiple: int) -> tuple[Tensor, Tensor | None]:
    """Batches latents (C, T_i) of several durations, with zeros behind their ends, and tells which frames are sound.

    shape (B, C, T) with T a multiple of `multiple`, and (B, T) on the CPU, or None where there is no padding.
    """
    frames = [latent.shape[-1] for latent in latents]
    longest = math.ceil(max(frames) / multiple) * multiple
    padded_BTC = pad_sequence([latent.mT for latent in latents], batch_first=True)
    x_BCT = torch.nn.functional.pad(padded_BTC.mT, (0, longest - max(frames))).contiguous()
    return x_BCT, None if min(frames) == longest else latent_mask(frames, longest)
