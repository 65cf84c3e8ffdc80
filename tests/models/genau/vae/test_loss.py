"""The VAE's loss: when the discriminator has a say, whose gradients it leaves, and that training by it works."""

import math

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.vae.loss import VAELoss, VAELossConfig, gradient_ratio
from autorecap.models.genau.vae.model import VAE
from tests.models.genau.vae.test_model import TINY, mels


@pytest.fixture
def tiny() -> VAE:
    torch.manual_seed(0)
    return VAE(TINY).eval()


def test_lpips_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="needs trained weights"):
        VAELoss(VAELossConfig(perceptual="lpips"))
    with pytest.raises(ValueError, match="multiscale, lpips, none"):
        VAELossConfig(perceptual="vgg")
    with pytest.raises(ValueError, match="kl_weight is -1"):
        VAELossConfig(kl_weight=-1)


def test_the_discriminator_has_no_say_before_its_start_and_none_in_validation(tiny: VAE) -> None:
    loss = VAELoss(VAELossConfig(disc_start=3, disc_width=8, disc_layers=1))
    mel_BMT = mels(2, 32)
    made_BMT, posterior = tiny.train()(mel_BMT)
    last_layer = tiny.decoder.conv_out.weight
    assert "adversarial" not in loss(mel_BMT, made_BMT, posterior, last_layer, 2)[1]
    assert not loss.discriminator_loss(mel_BMT, made_BMT, 2)[0].requires_grad
    assert "adversarial" in loss(mel_BMT, made_BMT, posterior, last_layer, 3)[1]
    assert loss.discriminator_loss(mel_BMT, made_BMT, 3)[0].requires_grad
    with torch.no_grad():
        assert "adversarial" not in loss(mel_BMT, made_BMT, posterior, last_layer, 3)[1]


def test_each_loss_leaves_gradients_at_its_own_network_alone(tiny: VAE) -> None:
    loss = VAELoss(VAELossConfig(disc_start=0, disc_width=8, disc_layers=1))
    mel_BMT = mels(2, 32)
    made_BMT, posterior = tiny.train()(mel_BMT)
    loss(mel_BMT, made_BMT, posterior, tiny.decoder.conv_out.weight, 0)[0].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert all(parameter.grad is not None for parameter in tiny.parameters())
    tiny.zero_grad(set_to_none=True)
    loss.discriminator_loss(mel_BMT, made_BMT, 0)[0].backward()
    assert all(parameter.grad is None for parameter in tiny.parameters())
    assert all(parameter.grad is not None for parameter in loss.discriminator.parameters())


def test_the_weighted_adversarial_term_pulls_as_hard_as_the_reconstruction() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    ratio = gradient_ratio(100 * (weight * torch.tensor([3.0, 4.0])).sum(), (weight**2).sum(), weight)
    assert float(ratio) == pytest.approx(500 / (math.sqrt(20) + 1e-4))
    assert float(gradient_ratio(weight.sum(), 0 * weight.sum(), weight)) == pytest.approx(math.sqrt(2) * 1e4, rel=0.3)
    assert float(gradient_ratio(1e6 * weight.sum(), 0 * weight.sum(), weight)) == 1e4


def test_a_few_steps_of_training_reconstruct_better_and_tell_real_from_made() -> None:
    torch.manual_seed(0)
    config = VAELossConfig(disc_start=40, disc_weight=0.1, disc_width=8, disc_layers=2, kl_weight=1.0)
    vae, loss = VAE(TINY).train(), VAELoss(config)
    vae_steps = torch.optim.Adam(vae.parameters(), lr=5e-3, betas=(0.5, 0.9))
    disc_steps = torch.optim.Adam(loss.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
    time = torch.arange(32) / 32
    bands = torch.arange(16)[:, None] / 16
    mel_BMT = torch.stack([torch.sin(6.28 * (k * time + bands)) * 3 - 5 for k in (1, 2, 3, 4)])
    seen: list[dict[str, Tensor]] = []
    for batches in range(80):
        made_BMT, posterior = vae(mel_BMT, torch.Generator().manual_seed(batches))
        disc_loss, disc_numbers = loss.discriminator_loss(mel_BMT, made_BMT, batches)
        if disc_loss.requires_grad:
            disc_steps.zero_grad()
            disc_loss.backward()
            disc_steps.step()
        total, numbers = loss(mel_BMT, made_BMT, posterior, vae.decoder.conv_out.weight, batches)
        vae_steps.zero_grad()
        total.backward()
        vae_steps.step()
        seen.append(numbers | disc_numbers)
    assert float(seen[-1]["l1"]) < 0.5  # the best constant has 1.9
    assert max(float(numbers["disc_real"] - numbers["disc_made"]) for numbers in seen[40:]) > 1
    assert all(bool(torch.isfinite(value)) for numbers in seen for value in numbers.values())


def test_training_in_bf16_autocast_gives_finite_gradients_close_to_those_in_fp32(tiny: VAE) -> None:
    torch.manual_seed(0)
    loss = VAELoss(VAELossConfig(disc_start=0, disc_width=8, disc_layers=1)).eval()
    mel_BMT = mels(2, 32)

    def gradient() -> Tensor:
        made_BMT, posterior = tiny(mel_BMT)
        total, _ = loss(mel_BMT, made_BMT, posterior, tiny.decoder.conv_out.weight, 0)
        return torch.autograd.grad(total, tiny.decoder.conv_in.weight)[0]

    expected = gradient()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient()
    assert float((found - expected).norm() / expected.norm()) < 0.1
