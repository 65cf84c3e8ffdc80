"""Samplers lead from noise to a latent: our own DDIM, and two faster solvers of diffusers where that is installed.

A sampler calls `denoise(x_BCT, timesteps_B)`, the backbone's output with guidance (`guidance.py`), `num_steps` times.
Shape suffixes: B batch, C channels, T latent frames.
"""

import importlib
import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from autorecap.models.genau.sampling.diffusion import Diffusion

Denoise = Callable[[Tensor, Tensor], Tensor]
Draw = Callable[[], Tensor]

DDIM = "ddim"
_OF_DIFFUSERS = {"dpm++": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler"}
SAMPLERS = (DDIM, *_OF_DIFFUSERS)
_THEIR_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}


class MissingLibraryError(ValueError):
    """A sampler was asked for whose library is not installed."""


def check_sampler(name: str, num_steps: int, eta: float, num_timesteps: int) -> None:
    """Raises ValueError where `sample` could not work with these, MissingLibraryError where a library is missing."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler is {name!r}: choose one of {', '.join(SAMPLERS)}")
    if isinstance(num_steps, bool) or not isinstance(num_steps, Integral) or not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps is {num_steps}: write a whole number from 1 to {num_timesteps}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}: write 0 (no noise on the way) to 1 (as much as the diffusion put in)")
    if name != DDIM:
        _diffusers()


def sample(
    name: str, denoise: Denoise, x_BCT: Tensor, diffusion: Diffusion, num_steps: int, **ddim_options: Any
) -> Tensor:
    """Samples a latent from noise by the sampler of this name.

    `ddim_options`: `eta` and `draw`, which only `ddim` reads.
    """
    if name == DDIM:
        return ddim(denoise, x_BCT, diffusion, num_steps, **ddim_options)
    return by_diffusers(name, denoise, x_BCT, diffusion, num_steps)


# --- DDIM


def ddim_timesteps(num_steps: int, num_timesteps: int = 1_000) -> list[int]:
    """Returns the timesteps that are visited, from the lowest to the highest: `num_steps` of them, evenly spread.

    The official spacing, 1, 1 + 1000/S, ... wherever S divides 1,000, continued to any S (there 400 ran 500 steps, 300
    and 1,000 failed). All of them are 0 to 999, and one alone is 999: at timestep 1 there is nothing left to remove.
    """
    if num_steps == 1:
        return [num_timesteps - 1]
    shift = 0 if num_steps == num_timesteps else 1
    return [i * num_timesteps // num_steps + shift for i in range(num_steps)]


def ddim(
    denoise: Denoise,
    x_BCT: Tensor,
    diffusion: Diffusion,
    num_steps: int,
    *,
    eta: float = 0.0,
    draw: Draw | None = None,
) -> Tensor:
    """Samples by DDIM (Song et al., 2021). shape (B, C, T) -> (B, C, T)

    `eta`: how random the way is; 0 not at all. Above 0 `draw` gives the noise of a step, of the latent's shape.
    """
    if eta > 0 and draw is None:
        raise ValueError(f"eta is {eta}, but there is no `draw` to give the noise")
    alphas = diffusion.alphas_cumprod.tolist()
    steps = ddim_timesteps(num_steps, len(alphas))
    # The official sampler ends at timestep 0, whose share of noise is 0.15 %; from there on only the sound is left.
    landings = [alphas[0] if steps[0] else 1.0, *(alphas[step] for step in steps[:-1])]
    for step, a_next in zip(reversed(steps), reversed(landings), strict=True):
        timesteps_B = torch.full((len(x_BCT),), step, device=x_BCT.device)
        x0_BCT, eps_BCT = diffusion.x0_and_eps(denoise(x_BCT, timesteps_B), x_BCT, timesteps_B)
        a = alphas[step]
        sigma = eta * math.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
        x_BCT = math.sqrt(a_next) * x0_BCT + math.sqrt(max(1 - a_next - sigma**2, 0)) * eps_BCT
        if eta > 0:
            assert draw is not None
            x_BCT = x_BCT + sigma * draw()
    return x_BCT


# --- diffusers


def by_diffusers(name: str, denoise: Denoise, x_BCT: Tensor, diffusion: Diffusion, num_steps: int) -> Tensor:
    """Samples by DPM-Solver++ (2M) or UniPC, as the diffusers library has them. shape (B, C, T) -> (B, C, T)

    Both are deterministic and need a fifth of DDIM's steps. Raises MissingLibraryError.
    """
    scheduler = getattr(_diffusers(), _OF_DIFFUSERS[name])(
        num_train_timesteps=diffusion.config.num_timesteps,
        trained_betas=diffusion.betas.tolist(),
        prediction_type=_THEIR_PREDICTIONS[diffusion.config.prediction],
        # In 1,000 steps their default visits a timestep twice and divides by zero; at others this one does.
        timestep_spacing="linspace" if num_steps < diffusion.config.num_timesteps else "trailing",
    )
    scheduler.set_timesteps(num_steps, device=x_BCT.device)
    for step in scheduler.timesteps:
        x_BCT = scheduler.step(denoise(x_BCT, step.expand(len(x_BCT))), step, x_BCT).prev_sample
    return x_BCT


def _diffusers() -> Any:
    try:
        return importlib.import_module("diffusers")  # large, and nothing else here needs it
    except ImportError as error:
        raise MissingLibraryError(
            f"the samplers {' and '.join(_OF_DIFFUSERS)} are those of diffusers, which is not installed ({error}): "
            f"`pip install 'autorecap[generate]'`, or take {DDIM}"
        ) from error
