"""A sampler calls the backbone under classifier-free guidance, and starts from noise; both are here.

Shape suffixes: B batch, C channels, T latent frames.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from autorecap.models.genau.backbones.backbone import Backbone, Prediction
from autorecap.models.genau.text.conditioning import Condition, concat


def check_scale(scale: float) -> None:
    """Raises ValueError for a guidance scale that is negative or not finite."""
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"guidance_scale is {scale}: write 0 (no text), 1 (no guidance) or more, such as 4")


class Guided:
    """A guided backbone gives unconditional + scale * (conditional - unconditional), both computed in one forward.

    The rule is that of Ho and Salimans (2022). A scale of 1 needs the conditional part alone, one of 0 the
    unconditional. With `remember` the backbone gets its latents of the step before; both parts get those of the
    conditional one, as in the official sampler.
    """

    def __init__(
        self,
        backbone: Backbone,
        condition: Condition,
        unconditional: Condition,
        scale: float,
        *,
        mask_BT: Tensor | None = None,
        remember: bool = False,
    ) -> None:
        check_scale(scale)
        batch = len(condition.dataset_ids_B)
        parts = [condition] if scale else []
        if scale != 1:
            parts.append(unconditional.expand(batch))
        self.backbone = backbone
        self.condition = concat(parts)
        self.scale = scale
        self.num_parts = len(parts)
        self.mask_BT = None if mask_BT is None else mask_BT.repeat(self.num_parts, 1)
        self.remember = remember
        self.previous_latents: Tensor | None = None

    def __call__(self, x_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        """Returns the backbone's output for a latent. shape (B, C, T) -> (B, C, T)"""
        prediction: Prediction = self.backbone(
            x_BCT.repeat(self.num_parts, 1, 1),
            timesteps_B.repeat(self.num_parts),
            self.condition.text,
            self.condition.dataset_ids_B,
            self.mask_BT,
            self.previous_latents,
        )
        if self.remember and prediction.latents is not None:
            self.previous_latents = prediction.latents[: len(x_BCT)].repeat(self.num_parts, 1, 1)
        if self.num_parts == 1:
            return prediction.eps
        with_text, without = prediction.eps.chunk(2)
        return without + self.scale * (with_text - without)


class Take(NamedTuple):
    """A take names one sound to be made by all that its noise depends on."""

    prompt: str
    seed: int
    number: int  # the same prompt again, or another candidate for it: another sound

    def generator(self) -> torch.Generator:
        """Returns a generator on the CPU, the same on every machine, and nobody else's, so independent of the batch."""
        name = f"{self.seed}|{self.number}|{self.prompt}".encode("utf-8", "surrogatepass")
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name).digest()[:8], "little"))


class Noise:
    """Noise is standard normal latents of several durations, each row from a generator of its own."""

    def __init__(self, takes: Sequence[Take], num_frames: Sequence[int], channels: int, length: int) -> None:
        self.generators = [take.generator() for take in takes]
        self.num_frames = num_frames
        self.channels = channels
        self.length = length

    def draw(self, device: torch.device) -> Tensor:
        """Draws the next noise, with zeros behind each row's end. fp32, shape (B, C, T)

        Frame by frame, so that a longer sound begins with the noise of a shorter one (torch keeps to that for latents
        whose channels are a multiple of 16).
        """
        rows = []
        for generator, frames in zip(self.generators, self.num_frames, strict=True):
            noise_TC = torch.randn(frames, self.channels, generator=generator)
            rows.append(F.pad(noise_TC.mT, (0, self.length - frames)))
        return torch.stack(rows).to(device, non_blocking=True)
