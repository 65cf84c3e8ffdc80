"""The diffusion: schedule, predictions, loss; and the official model's numbers, for sampling with guidance too."""

import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import PREDICTIONS, ContextConfig, DiffusionConfig, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.official.fit import from_official
from autorecap.models.genau.sampling.diffusion import Diffusion, pad_latents
from autorecap.models.genau.sampling.guidance import Guided
from autorecap.models.genau.sampling.samplers import (
    ddim,
    ddim_timesteps,
)
from autorecap.models.genau.text.conditioning import Condition
from tests.support.genau_vectors import Vectors


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


# --- schedule, predictions, loss


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_what_is_predicted_gives_back_sound_and_noise(prediction):
    diffusion = Diffusion(DiffusionConfig(prediction=prediction))
    x0, noise, t = torch.randn(4, 3, 8), torch.randn(4, 3, 8), torch.tensor([0, 200, 500, 998])
    x = diffusion.q_sample(x0, noise, t)
    assert x.shape == (4, 3, 8)
    said = diffusion.target(x0, noise, t)
    sound, found = diffusion.x0_and_eps(said, x, t)
    torch.testing.assert_close(sound, x0, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(found, noise, atol=2e-4, rtol=1e-4)
    assert diffusion.loss(said, x0, noise, t) == 0


def test_the_loss_is_over_frames_that_are_sound():
    diffusion = Diffusion()
    x0, noise, output = torch.randn(3, 2, 3, 8)
    output = output.clone().requires_grad_()
    t = torch.tensor([3, 700])
    mask = torch.arange(8) < torch.tensor([[8], [2]])
    loss = diffusion.loss(output, x0, noise, t, mask)
    error = (output - noise).square()
    torch.testing.assert_close(loss, torch.cat([error[0].flatten(), error[1, :, :2].flatten()]).mean())
    loss.backward()
    assert output.grad is not None and not output.grad[1, :, 2:].any() and output.grad[1, :, :2].all()
    whole = diffusion.loss(output, x0, noise, t)
    torch.testing.assert_close(whole, error.mean())
    torch.testing.assert_close(whole, diffusion.loss(output, x0, noise, t, torch.ones(2, 8)))


def test_timesteps_are_uniform_and_the_generators():
    diffusion = Diffusion()
    drawn = diffusion.draw_timesteps(20_000, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, diffusion.draw_timesteps(20_000, torch.Generator().manual_seed(1)))
    assert drawn.min() >= 0 and drawn.max() == 999
    assert torch.histc(drawn.float(), 10).sub(2_000).abs().max() < 200


def test_latents_of_several_durations_become_a_batch_and_its_mask():
    x, mask = pad_latents([torch.ones(3, 5), torch.ones(3, 9)], 8)
    assert x.shape == (2, 3, 16) and x.sum(dim=(1, 2)).tolist() == [15, 27]
    assert mask is not None and mask.sum(dim=1).tolist() == [5, 9] and torch.equal(x[:, 0] > 0, mask)
    assert pad_latents([torch.ones(3, 8)] * 2, 8)[1] is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prediction": "noise"}, "prediction is 'noise': write one of eps, v, x0"),
        ({"beta_start": 0.5, "beta_end": 0.1}, "write rising values"),
        ({"num_timesteps": 0}, "num_timesteps is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(**bad)


# --- the official model's numbers


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


TINY = FitConfig(
    channels=8,
    max_frames=32,
    group_size=8,
    num_latents=16,
    patch_width=64,
    latent_width=96,
    num_blocks=2,
    local_layers=2,
    global_layers=2,
    head_width=16,
    context=ContextConfig(width=80, summary_width=48),
)


@pytest.fixture
def tiny(vectors) -> Fit:
    shapes = {name: torch.zeros(shape) for name, shape in vectors.shapes["fit_tiny"].items()}
    fit = Fit(TINY).eval()
    fit.load_state_dict(from_official(vectors.fill(shapes), TINY)[0])
    return fit


def official_condition(vectors: Vectors, texts: list[str], ids: list[int]) -> Condition:
    """What the vectors' stand-ins for CLAP and T5 say."""

    def normal(name: str, width: int) -> Tensor:
        return vectors.normal(name, 1, width)

    rows = [torch.cat([normal(f"cond.clap.{text}", 16), normal(f"cond.t5.{text}", 32)], dim=1) for text in texts]
    return Condition(Text(torch.cat(rows)), torch.tensor(ids))


def close(found: Tensor, expected: Tensor, relative: float = 1e-4) -> None:
    expected = expected.squeeze(-1) if expected.ndim == 4 else expected
    assert (found.double() - expected.double()).abs().max() <= relative * expected.double().abs().max()


def test_the_schedule_is_the_official_one(vectors):
    diffusion = Diffusion()
    close(diffusion.betas, vectors["sched.betas_f64"], 1e-9)
    torch.testing.assert_close(
        diffusion.alphas_cumprod, vectors["sched.alphas_cumprod_f64"].double(), rtol=1e-6, atol=0
    )
    alpha, sigma = (part.flatten() for part in diffusion.alpha_sigma(torch.tensor([0, 1, 2, 997, 998, 999])))
    torch.testing.assert_close(alpha, vectors["sched.buf_sqrt_alphas_cumprod_first3_last3"], rtol=1e-6, atol=0)
    torch.testing.assert_close(
        sigma, vectors["sched.buf_sqrt_one_minus_alphas_cumprod_first3_last3"], rtol=1e-6, atol=0
    )
    for num_steps in (20, 50, 100, 200):
        assert ddim_timesteps(num_steps) == vectors[f"sched.ddim_timesteps_{num_steps}"].tolist()
    at = diffusion.alphas_cumprod[ddim_timesteps(100)]
    torch.testing.assert_close(at.float(), vectors["sched.ddim100_alphas"], rtol=1e-6, atol=0)
    before = diffusion.alphas_cumprod[[0, *ddim_timesteps(100)[:-1]]]
    torch.testing.assert_close(before, vectors["sched.ddim100_alphas_prev"], rtol=1e-6, atol=0)


def test_the_training_loss_is_the_official_one(vectors, tiny):
    diffusion = Diffusion()
    x0, noise = (vectors.input(f"train.{name}", 2, 8, 32, 1).squeeze(-1) for name in ("x0", "noise"))
    t = torch.tensor([3, 700])
    condition = official_condition(vectors, ["a dog barks", "rain on a roof"], [0, 2])
    summary_BW: Any = condition.text.summary_BW
    close(summary_BW, vectors["train.y_concat"])
    x = diffusion.q_sample(x0, noise, t)
    close(x, vectors["train.x_noisy"], 1e-6)
    output = tiny(x, t, *condition).eps
    close(output, vectors["train.eps"])
    loss = diffusion.loss(output, x0, noise, t)
    assert loss.item() == pytest.approx(1.9138796, rel=1e-5)
    loss.backward()
    norms = [p.grad.square().sum() for p in tiny.parameters() if p.grad is not None]
    assert float(torch.stack(norms).sum().sqrt()) == pytest.approx(float(vectors["train.grad_norm_total"]), rel=1e-4)


def test_sampling_with_guidance_is_the_official_one(vectors, tiny):
    condition = official_condition(vectors, ["a dog barks", "rain on a roof"], [0, 2])
    guided = Guided(tiny, condition, official_condition(vectors, [""], [0]), 3.5, remember=True)
    seen: list[tuple[Tensor, Tensor]] = []  # each step's latent, and the sound that it points to

    def watched(x_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        out_BCT = guided(x_BCT, timesteps_B)
        seen.append((x_BCT, Diffusion().x0_and_eps(out_BCT, x_BCT, timesteps_B)[0]))
        return out_BCT

    with torch.inference_mode():
        x = ddim(watched, vectors.input("ddim.xT", 2, 8, 32, 1).squeeze(-1), Diffusion(), 20)
    tag = "ddim.S20_eta0_cfg3.5"
    close(seen[1][0], vectors[f"{tag}.x_after_step1"])
    close(seen[2][0], vectors[f"{tag}.x_after_step2"])
    close(x, vectors[f"{tag}.x_final"])
    close(seen[-1][1], vectors[f"{tag}.pred_x0_final"])


def test_the_official_seeding_can_be_had_from_a_torch_generator(vectors):
    """Not how we seed: there the seed was the name of the file, and `--seed` changed something else."""
    seed = int(hashlib.md5(b"a_dog_barks").hexdigest(), 16) % 2**32
    assert seed == int(vectors["seed.md5_seed_a_dog_barks"])
    noise = torch.randn(64, 256, 1, generator=torch.Generator().manual_seed(seed)).flatten()[:8]
    assert torch.equal(noise, vectors["seed.noise_for_fname_a_dog_barks_first8"])
