"""The samplers: ours finds the right distribution, those of diffusers agree with it, and wrong settings are refused."""

import math

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.config import PREDICTIONS, DiffusionConfig
from autorecap.models.genau.sampling import samplers
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.sampling.samplers import (
    SAMPLERS,
    MissingLibraryError,
    by_diffusers,
    check_sampler,
    ddim,
    ddim_timesteps,
    sample,
)

SPREAD = 0.5  # of the toy sounds: independent normal values


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def test_any_number_of_steps_visits_that_many_timesteps():
    for num_steps in range(1, 1_001):
        steps = ddim_timesteps(num_steps)
        assert len(steps) == num_steps and steps == sorted(set(steps)) and steps[0] >= 0 and steps[-1] <= 999
        if 1_000 % num_steps == 0 and 1 < num_steps < 1_000:
            assert steps == [1 + i for i in range(0, 1_000, 1_000 // num_steps)]  # the official spacing


def best_denoiser(diffusion: Diffusion, calls: list[int]):
    """The best possible output for sounds of independent values with standard deviation `SPREAD`."""

    def denoise(x: Tensor, timesteps_B: Tensor) -> Tensor:
        calls.append(int(timesteps_B[0]))
        alpha, sigma = diffusion.alpha_sigma(timesteps_B)
        x0 = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2) * x
        return diffusion.target(x0, (x - alpha * x0) / sigma, timesteps_B)

    return denoise


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("prediction", "num_steps", "tolerance"),
    [("eps", 50, 0.2), ("v", 50, 0.2), ("x0", 50, 0.2), ("eps", 300, 0.04), ("eps", 999, 0.02), ("eps", 1_000, 0.02)],
)
def test_ddim_makes_sounds_of_the_right_distribution(prediction, num_steps, tolerance, eta):
    diffusion = Diffusion(DiffusionConfig(prediction=prediction))
    calls: list[int] = []
    x = torch.randn(1, 4, 5_000)
    out = ddim(best_denoiser(diffusion, calls), x, diffusion, num_steps, eta=eta, draw=lambda: torch.randn(1, 4, 5_000))
    assert len(calls) == num_steps
    assert abs(out.std() / SPREAD - 1) < tolerance
    if not eta:
        assert torch.corrcoef(torch.stack([out.flatten(), x.flatten()]))[0, 1] > 0.999


def test_one_step_points_at_the_sound():
    """From pure noise the best guess is the mean, 0: at the official code's only timestep, 1, it would be the noise."""
    diffusion = Diffusion()
    out = ddim(best_denoiser(diffusion, []), torch.randn(1, 4, 100), diffusion, 1)
    assert out.std() < 0.05


def test_ddim_without_eta_is_deterministic_and_with_it_needs_noise():
    diffusion = Diffusion()
    x = torch.randn(2, 3, 8)
    denoise = best_denoiser(diffusion, [])
    assert torch.equal(ddim(denoise, x, diffusion, 10), ddim(denoise, x, diffusion, 10))
    with pytest.raises(ValueError, match="no `draw`"):
        ddim(denoise, x, diffusion, 10, eta=0.5)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddim"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("num_steps", [1, 2, 25, 400, 1_000])
def test_diffusers_samplers_agree_with_ddim(name, prediction, num_steps):
    pytest.importorskip("diffusers")
    diffusion = Diffusion(DiffusionConfig(prediction=prediction))
    calls: list[int] = []
    x = torch.randn(2, 3, 50)
    out = sample(name, best_denoiser(diffusion, calls), x, diffusion, num_steps)
    assert len(calls) == num_steps and torch.isfinite(out).all()
    if num_steps >= 25:
        fine = ddim(best_denoiser(diffusion, []), x, diffusion, 1_000)
        assert (out - fine).abs().mean() < 0.15 * SPREAD


def test_without_diffusers_its_samplers_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'autorecap\[generate\]'"):
        check_sampler("dpm++", 20, 1.0, 1_000)
    with pytest.raises(MissingLibraryError, match="or take ddim"):
        by_diffusers("unipc", lambda x, t: x, torch.zeros(1, 1, 1), Diffusion(), 5)
    check_sampler("ddim", 20, 1.0, 1_000)


@pytest.mark.parametrize("num_steps", [0, -1, 1_001, 2.5, True])
def test_a_number_of_steps_that_cannot_be_is_refused(num_steps):
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}: write a whole number from 1 to 1000"):
        check_sampler("ddim", num_steps, 1.0, 1_000)


def test_unknown_samplers_and_etas_are_refused():
    with pytest.raises(ValueError, match="sampler is 'plms': choose one of ddim, dpm"):
        check_sampler("plms", 20, 1.0, 1_000)
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="eta is"):
            check_sampler("ddim", 20, eta, 1_000)
    assert samplers.SAMPLERS[0] == "ddim"
