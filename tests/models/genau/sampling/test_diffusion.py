"""The diffusion: schedule, predictions, loss, guidance, samplers; and the official model's numbers for them."""

import hashlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.backbone import Prediction, Text
from autorecap.models.genau.backbones.config import PREDICTIONS, ContextConfig, DiffusionConfig, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.official.fit import from_official
from autorecap.models.genau.sampling import samplers
from autorecap.models.genau.sampling.diffusion import Diffusion, pad_latents
from autorecap.models.genau.sampling.guidance import Guided, Noise, Take
from autorecap.models.genau.sampling.samplers import (
    SAMPLERS,
    MissingLibraryError,
    by_diffusers,
    check_sampler,
    ddim,
    ddim_timesteps,
    sample,
)
from autorecap.models.genau.text.conditioning import Condition
from tests.support.genau_vectors import Vectors

SPREAD = 0.5  # of the toy sounds: independent normal values


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


# --- samplers


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


# --- guidance and noise


class Recorder(torch.nn.Module):
    """A backbone that says what its text is, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.previous: list[Tensor | None] = []

    def forward(self, x_BCT, timesteps_B, text, dataset_ids_B, mask_BT=None, previous_latents=None):
        assert len(x_BCT) == len(timesteps_B) == len(dataset_ids_B) == len(text.summary_BW)
        self.batches.append(len(x_BCT))
        self.previous.append(previous_latents)
        eps = text.summary_BW[:, :1, None].expand(x_BCT.shape) + dataset_ids_B[:, None, None]
        return Prediction(eps, text.summary_BW[:, None])


def conditions(batch: int) -> tuple[Condition, Condition]:
    with_text = Condition(Text(torch.full((batch, 2), 3.0)), torch.full((batch,), 2))
    return with_text, Condition(Text(torch.zeros(1, 2)), torch.tensor([1]))


def guided_by(backbone: Any, batch: int, scale: float, **options: Any) -> Guided:
    return Guided(backbone, *conditions(batch), scale, **options)


@pytest.mark.parametrize(("scale", "output", "batch"), [(3.5, 15.0, 4), (1, 5.0, 2), (0, 1.0, 2), (0.5, 3.0, 4)])
def test_guidance_is_one_forward_of_what_is_needed(scale, output, batch):
    backbone = Recorder()
    guided = guided_by(backbone, 2, scale, remember=True)
    x, t = torch.zeros(2, 3, 4), torch.tensor([9, 9])
    for _ in range(2):
        torch.testing.assert_close(guided(x, t), torch.full((2, 3, 4), output))
    assert backbone.batches == [batch, batch]
    # both parts get the latents of the part with text, if there is one
    assert backbone.previous[0] is None
    assert backbone.previous[1].flatten().tolist() == [3.0 if scale else 0.0] * 2 * batch


def test_without_self_conditioning_no_latents_go_back():
    backbone = Recorder()
    guided = guided_by(backbone, 2, 2.0)
    for _ in range(2):
        guided(torch.zeros(2, 3, 4), torch.tensor([9, 9]))
    assert backbone.previous == [None, None]


@pytest.mark.parametrize("scale", [-1, math.nan, math.inf])
def test_a_guidance_scale_that_means_nothing_is_refused(scale):
    with pytest.raises(ValueError, match="guidance_scale is"):
        guided_by(Recorder(), 1, scale)


def test_noise_depends_on_prompt_seed_and_number_alone():
    takes = [Take("rain", 5, 0), Take("rain", 5, 1), Take("rain", 6, 0), Take("wind", 5, 0), Take("\ud800", 5, 0)]
    together = Noise(takes, [8, 5, 8, 8, 8], 3, 16)
    first, second = together.draw(torch.device("cpu")), together.draw(torch.device("cpu"))
    assert first.shape == (5, 3, 16) and not first[1, :, 5:].any() and not first[0, :, 8:].any()
    assert len({tuple(row[:, :5].flatten().tolist()) for row in (*first, *second)}) == 10
    for i, take in enumerate(takes):
        alone = Noise([take], [[8, 5, 8, 8, 8][i]], 3, 8)
        assert torch.equal(alone.draw(torch.device("cpu"))[0], first[i, :, :8])
        assert torch.equal(alone.draw(torch.device("cpu"))[0], second[i, :, :8])


def test_a_longer_sound_begins_with_the_noise_of_a_shorter_one():
    take = Take("rain", 5, 0)
    short, long = (Noise([take], [frames], 16, 8).draw(torch.device("cpu")) for frames in (4, 8))
    assert torch.equal(short[..., :4], long[..., :4])


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
    seen: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        x = ddim(
            guided,
            vectors.input("ddim.xT", 2, 8, 32, 1).squeeze(-1),
            Diffusion(),
            20,
            each=lambda x, x0: seen.append((x, x0)),
        )
    tag = "ddim.S20_eta0_cfg3.5"
    close(seen[0][0], vectors[f"{tag}.x_after_step1"])
    close(seen[1][0], vectors[f"{tag}.x_after_step2"])
    close(x, vectors[f"{tag}.x_final"])
    close(seen[-1][1], vectors[f"{tag}.pred_x0_final"])


def test_the_official_seeding_can_be_had_from_a_torch_generator(vectors):
    """Not how we seed: there the seed was the name of the file, and `--seed` changed something else."""
    seed = int(hashlib.md5(b"a_dog_barks").hexdigest(), 16) % 2**32
    assert seed == int(vectors["seed.md5_seed_a_dog_barks"])
    noise = torch.randn(64, 256, 1, generator=torch.Generator().manual_seed(seed)).flatten()[:8]
    assert torch.equal(noise, vectors["seed.noise_for_fname_a_dog_barks_first8"])
