"""The 1D-VAE: against the official numbers, those of its loss among them, and what it promises.

Also proves models/genau/official/vae.py, and models/genau/norms.py, by which a clip does not see its padding.
"""

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from autorecap.models.genau.audio import SILENCE, latent_mask, log_mel
from autorecap.models.genau.official.vae import (
    config_from_official,
    from_official,
    lpips_from_official,
)
from autorecap.models.genau.vae.discriminator import PatchDiscriminator
from autorecap.models.genau.vae.loss import VAELoss, VAELossConfig, as_image
from autorecap.models.genau.vae.model import SIZES, VAE, Posterior, VAEConfig
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.models.official_tensors import under
from tests.support.genau_vectors import Vectors, shapes_of

SMALL = VAEConfig(size="official", channels=8, width=32, inner_channels=16)  # the vectors' small one
TINY = VAEConfig(num_mels=16, channels=4, width=32, multipliers=(1, 1, 2), blocks=1, inner_channels=8)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


@pytest.fixture
def tiny() -> VAE:
    torch.manual_seed(0)
    return VAE(TINY).eval()


def mels(batch: int, frames: int, bands: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(batch, bands, frames, generator=torch.Generator().manual_seed(seed)) * 2 - 5


def discriminator_of(checkpoint: dict[str, Tensor]) -> PatchDiscriminator:
    discriminator = PatchDiscriminator()
    discriminator.load_state_dict(under("loss.discriminator.", checkpoint))
    return discriminator


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- the official numbers


@pytest.fixture(scope="module")
def small(vectors: Vectors) -> VAE:
    vae = VAE(SMALL)
    state, unused = from_official(vectors.fill(vae.state_dict()) | {"loss.logvar": torch.zeros(())}, SMALL)
    assert unused == ["loss.logvar"]
    vae.load_state_dict(state)
    return vae.eval()


@torch.no_grad()
def test_posterior_and_reconstruction_are_the_official_ones(vectors: Vectors, small: VAE) -> None:
    mel_B1TM = vectors.input("vae_small.mel", 1, 1, 64, 64) * 2 - 5
    posterior = small.encode(mel_B1TM[:, 0].mT)
    torch.testing.assert_close(posterior.mean[..., None], vectors["vae_small.mean"], atol=1e-5, rtol=0)
    torch.testing.assert_close(posterior.logvar[..., None], vectors["vae_small.logvar"], atol=1e-5, rtol=0)
    torch.testing.assert_close(posterior.kl(), vectors["vae_small.kl"], atol=1e-5, rtol=0)
    made_B1TM = as_image(small.decode(posterior.mean))
    torch.testing.assert_close(made_B1TM, vectors["vae_small.dec_of_mean"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_latents_of_the_training_vectors_are_the_official_ones(vectors: Vectors, small: VAE) -> None:
    posterior = small.encode((vectors.input("train.mel", 2, 128, 64) * 2 - 5).mT)
    torch.testing.assert_close(posterior.mean[..., None], vectors["train.posterior_mean"], atol=1e-5, rtol=0)
    torch.testing.assert_close(1 / posterior.mean.std(), vectors["train.scale_factor_from_mean_std"], atol=1e-5, rtol=0)


def test_names_and_shapes_are_the_official_ones(vectors: Vectors) -> None:
    with torch.device("meta"):
        vae = VAE(VAEConfig())
        loss = VAELoss(VAELossConfig(perceptual="lpips"), Lpips())
    assert shapes_of(vae.state_dict()) == vectors.shapes["vae_1d"]
    assert {"loss.logvar": []} | shapes_of(loss.state_dict(), "loss.") == vectors.shapes["vae_1d_loss_module"]


@pytest.fixture(scope="module")
def official_loss(vectors: Vectors) -> VAELoss:
    """With every weight from the recipe, by way of an official checkpoint's names."""
    config = VAELossConfig(perceptual="lpips", disc_start=50_001)
    filled = vectors.fill(VAELoss(config, Lpips()).state_dict(), "loss.")
    loss = VAELoss(config, lpips_from_official(filled))
    loss.discriminator = discriminator_of(filled)
    return loss.train()


def reset_statistics(vectors: Vectors, loss: VAELoss, dtype: torch.dtype = torch.float32) -> None:
    state = vectors.fill(loss.discriminator.state_dict(), "loss.discriminator.")
    loss.discriminator = discriminator_of(state).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "score_error"),
    [
        (torch.float64, 1e-7),  # scores are 0.6 in size: what rounding to fp32 left of the official ones
        (torch.float32, 1e-6),  # and a few roundings more, which differ from kernel to kernel
    ],
)
def test_losses_are_the_official_ones(
    vectors: Vectors, small: VAE, official_loss: VAELoss, dtype: torch.dtype, score_error: float
) -> None:
    vae, official_loss = copy.deepcopy(small).to(dtype), copy.deepcopy(official_loss).to(dtype)
    mel_BMT = (vectors.input("disc.real", 2, 1, 64, 64) * 2 - 5)[:, 0].mT.to(dtype)
    last_layer = vae.decoder.conv_out.weight
    posterior = vae.encode(mel_BMT)
    made_BMT = vae.decode(posterior.mean)
    for batches in (0, 60_000):
        reset_statistics(vectors, official_loss, dtype)
        loss, numbers = official_loss(mel_BMT, made_BMT, posterior, last_layer, batches)

        def official(name: str, batches: int = batches) -> float:
            return float(vectors[f"vaeloss.gen_step{batches}{name}"])

        assert float(loss.detach()) == pytest.approx(official(""), rel=1e-5)
        assert float(numbers["kl"]) == pytest.approx(official(".kl_loss"), rel=1e-5)
        assert float(numbers["reconstruction"]) == pytest.approx(official(".nll_loss"), rel=1e-5)
        assert float(numbers["l1"] + numbers["perceptual"]) == pytest.approx(official(".rec_loss"), rel=1e-5)
    # The mean of scores that cancel: it is -0.002, and its error is that of the scores.
    assert float(numbers["adversarial"]) == pytest.approx(official(".g_loss"), abs=score_error)
    assert 0.5 * float(numbers["ratio"]) == pytest.approx(official(".d_weight"), rel=1e-4)
    reset_statistics(vectors, official_loss, dtype)
    assert float(official_loss.discriminator_loss(mel_BMT, made_BMT, 0)[0]) == 0
    assert float(official_loss.discriminator_loss(mel_BMT, made_BMT, 60_000)[0].detach()) == pytest.approx(
        1.02588, abs=1e-5
    )


# --- sizes


def test_parameter_counts_are_those_of_the_released_model() -> None:
    with torch.device("meta"):
        vae, discriminator, lpips = VAE(VAEConfig()), PatchDiscriminator(), Lpips()
    assert num_parameters(vae.encoder) == 168_240_640
    assert num_parameters(vae.decoder) == 223_316_544
    assert num_parameters(vae.quant_conv) == 65_664
    assert num_parameters(vae.post_quant_conv) == 16_640
    assert num_parameters(discriminator) == 2_763_585
    assert num_parameters(lpips) == 14_716_160


@pytest.mark.parametrize("channels", [64, 128, 256])
def test_each_latent_width_of_table_11_gives_25_latent_frames_a_second(channels: int) -> None:
    with torch.device("meta"):
        vae = VAE(VAEConfig(channels=channels))
        posterior = vae.encode(torch.empty(2, 64, 1_024))
        assert posterior.mean.shape == (2, channels, 256)
        assert vae.decode(posterior.mean).shape == (2, 64, 1_024)


def test_a_config_survives_its_json_and_is_read_from_official_shapes() -> None:
    for config in (*SIZES.values(), TINY, SMALL):
        assert VAEConfig.from_dict(config.to_dict()) == config
        with torch.device("meta"):
            tensors = VAE(config).state_dict()
        assert config_from_official(tensors, size=config.size) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 48}, "multiple of 32"), ({"channels": 0}, "write 1 or more"), ({"multipliers": ()}, "multiple of 32")],
)
def test_a_config_that_cannot_be_built_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VAEConfig(), **change)


# --- encode and decode


@pytest.mark.parametrize("frames", [4, 8, 60, 200])
@torch.no_grad()
def test_any_number_of_frames_that_four_divides_comes_back(tiny: VAE, frames: int) -> None:
    posterior = tiny.encode(mels(2, frames))
    assert posterior.mean.shape == posterior.logvar.shape == (2, 4, frames // 4)
    assert tiny.decode(posterior.mean).shape == (2, 16, frames)


@pytest.mark.parametrize("shape", [(2, 16, 6), (2, 16, 0), (2, 8, 8), (16, 8), (2, 1, 16, 8)])
def test_log_mels_of_another_shape_are_refused(tiny: VAE, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 16, frames\)"):
        tiny.encode(torch.zeros(shape))


def test_latents_of_another_shape_are_refused(tiny: VAE) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 4, latent frames\)"):
        tiny.decode(torch.zeros(2, 8, 10))


@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch(tiny: VAE) -> None:
    mel_BMT = mels(3, 40)
    together, alone = tiny.encode(mel_BMT), tiny.encode(mel_BMT[1:2])
    torch.testing.assert_close(together.mean[1:2], alone.mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiny.decode(together.mean)[1:2], tiny.decode(alone.mean), atol=1e-5, rtol=1e-5)
    assert torch.equal(tiny.encode(mel_BMT).mean, together.mean)


@torch.no_grad()
def test_silence_behind_a_clip_changes_it_unless_it_is_masked(tiny: VAE) -> None:
    short = mels(1, 40)
    padded = torch.cat([short, torch.full((1, 16, 24), SILENCE)], dim=2)
    alone = tiny.encode(short).mean
    assert float((tiny.encode(padded).mean[..., :5] - alone[..., :5]).abs().max()) > 1e-2
    masked = tiny.encode(padded, latent_mask([10], 16)).mean
    torch.testing.assert_close(masked[..., :10], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "counts", "tolerance"),
    [
        # in float64 rounding cannot hide a mask that lets something through
        (torch.float64, [1, 5, 9, 12], 1e-9),
        # no clip of one frame here: in float32 a group norm over so little amplifies rounding, on some CPUs beyond this
        (torch.float32, [2, 5, 9, 12], 1e-4),
    ],
    ids=str,
)
@torch.no_grad()
def test_in_a_masked_batch_every_clip_is_what_it_is_alone(
    tiny: VAE, dtype: torch.dtype, counts: list[int], tolerance: float
) -> None:
    tiny, length = tiny.to(dtype), 12
    mask_BN = latent_mask(counts, length)
    mel_BMT = mels(4, 4 * length).to(dtype)
    for i, count in enumerate(counts):
        mel_BMT[i, :, 4 * count :] = math.nan
    posterior = tiny.encode(mel_BMT, mask_BN)
    latents_BCN = posterior.mean.clone()
    assert latents_BCN.dtype == dtype
    for i, count in enumerate(counts):
        latents_BCN[i, :, count:] = math.nan
    made_BMT = tiny.decode(latents_BCN, mask_BN)
    for i, count in enumerate(counts):
        alone = tiny.encode(mel_BMT[i : i + 1, :, : 4 * count])
        for found, expected in ((posterior.mean, alone.mean), (posterior.logvar, alone.logvar)):
            torch.testing.assert_close(found[i : i + 1, :, :count], expected, atol=tolerance, rtol=tolerance)
        assert float(posterior.sample()[i, :, count:].abs().sum()) < 1e-3
        expected = tiny.decode(alone.mean)
        torch.testing.assert_close(made_BMT[i : i + 1, :, : 4 * count], expected, atol=tolerance, rtol=tolerance)
        assert bool((made_BMT[i, :, 4 * count :] == SILENCE).all())


def test_a_mask_of_nothing_is_no_mask_and_one_of_another_shape_is_refused(tiny: VAE) -> None:
    mel_BMT = mels(2, 16)
    assert torch.equal(tiny.encode(mel_BMT, torch.ones(2, 4).bool()).mean, tiny.encode(mel_BMT).mean)
    with pytest.raises(ValueError, match=r"mask: shape is \(2, 16\), expected \(2, 4\)"):
        tiny.encode(mel_BMT, torch.ones(2, 16).bool())
    with pytest.raises(ValueError, match=r"mask: shape"):
        tiny.decode(torch.zeros(2, 4, 5), torch.ones(2, 4).bool())


def test_gradients_through_a_masked_batch_are_those_of_its_clips(tiny: VAE) -> None:
    mel_BMT = mels(2, 16)

    def gradients(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, tiny.encoder.conv_in.weight)[0]

    posterior = tiny.encode(mel_BMT, latent_mask([2, 4], 4))
    together = gradients(posterior.mean.square().sum())
    alone = gradients(tiny.encode(mel_BMT[:1, :, :8]).mean.square().sum())
    alone = alone + gradients(tiny.encode(mel_BMT[1:]).mean.square().sum())
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight_and_the_input(tiny: VAE) -> None:
    mel_BMT = mels(2, 16).requires_grad_()
    made_BMT, posterior = tiny.train()(mel_BMT, torch.Generator().manual_seed(0))
    ((made_BMT * mels(2, 16, seed=1)).sum() + posterior.kl().sum()).backward()
    # a key's bias adds the same to every score of a query, which the softmax takes out again
    without = [
        name
        for name, parameter in tiny.named_parameters()
        if not name.endswith("attn_1.k.bias") and not (parameter.grad is not None and bool((parameter.grad != 0).any()))
    ]
    assert without == []
    assert mel_BMT.grad is not None
    assert bool((mel_BMT.grad != 0).any())


@torch.no_grad()
def test_bf16_is_close_to_fp32_and_gives_an_fp32_posterior(tiny: VAE) -> None:
    mel_BMT = mels(2, 32)
    expected = tiny.encode(mel_BMT)
    half = tiny.bfloat16()
    posterior = half.encode(mel_BMT)
    assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32
    torch.testing.assert_close(posterior.mean, expected.mean, atol=0.1, rtol=0)
    assert bool(torch.isfinite(half.decode(posterior.mean)).all())
    masked = half.encode(mel_BMT, latent_mask([8, 3], 8))
    torch.testing.assert_close(masked.mean[0], posterior.mean[0], atol=0.1, rtol=0)


# --- posterior


def test_samples_have_the_posteriors_mean_and_deviation() -> None:
    posterior = Posterior(torch.full((1, 4, 5_000), 3.0), torch.full((1, 4, 5_000), math.log(0.25)))
    sample = posterior.sample(torch.Generator().manual_seed(0))
    assert float(sample.mean()) == pytest.approx(3, abs=0.02)
    assert float(sample.std()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(sample, posterior.sample(torch.Generator().manual_seed(0)))
    assert not torch.equal(sample, posterior.sample(torch.Generator().manual_seed(1)))


def test_divergence_is_that_of_two_normal_distributions_per_value() -> None:
    mean, logvar = mels(2, 6, 4), mels(2, 6, 4, seed=1) / 5
    normal = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean(dim=(1, 2))
    torch.testing.assert_close(Posterior(mean, logvar).kl(), expected)


@torch.no_grad()
def test_extreme_variances_are_clamped(tiny: VAE) -> None:
    tiny.quant_conv.bias.fill_(1e4)
    assert float(tiny.encode(mels(1, 8)).logvar.max()) == 20
    tiny.quant_conv.bias.fill_(-1e4)
    assert float(tiny.encode(mels(1, 8)).logvar.min()) == -30


# --- official weights that do not fit


def test_official_weights_that_do_not_fit_are_refused_by_name() -> None:
    good = dict(VAE(TINY).state_dict())
    name = "decoder.up.1.block.0.conv1.weight"
    with pytest.raises(ValueError, match=f"{name} is missing"):
        from_official({key: value for key, value in good.items() if key != name}, TINY)
    with pytest.raises(ValueError, match=rf"{name} has shape \(1,\), expected"):
        from_official(good | {name: torch.zeros(1)}, TINY)
    with pytest.raises(ValueError, match=f"{name} holds NaN"):
        from_official(good | {name: good[name] * math.nan}, TINY)
    with pytest.raises(ValueError, match="not VAE weights"):
        config_from_official({"something.else": torch.zeros(1)})


# --- loss


def test_the_demo_size_takes_clips_of_the_front_end_silent_ones_too() -> None:
    torch.manual_seed(0)
    vae = VAE(SIZES["demo"]).eval()
    with torch.no_grad():
        made_BMT, posterior = vae(log_mel(torch.randn(2, 20_480) * torch.tensor([[1.0], [0.0]])))
    assert made_BMT.shape == (2, 64, 128)
    assert posterior.mean.shape == (2, 16, 32)
    assert bool(torch.isfinite(made_BMT).all())
    assert bool(torch.isfinite(posterior.kl()).all())
