"""The perceptual distances that the VAE learns by."""

from typing import Any

import pytest
import torch
from torch import nn

from autorecap.models.genau.official.vae import lpips_from_official
from autorecap.models.genau.vae.loss import as_image
from autorecap.models.genau.vae.perceptual import Lpips, Multiscale


def images(seed: int) -> torch.Tensor:
    return as_image(torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 5)


@pytest.mark.parametrize("distance", [Multiscale(), Lpips()])
def test_perceptual_distances_are_zero_for_equals_and_grow_with_the_difference(distance: nn.Module) -> None:
    if isinstance(distance, Lpips):  # as it starts, weights per channel may be negative
        for name, parameter in distance.named_parameters():
            if name.startswith("lin"):
                parameter.abs_()
    real, other = images(0), images(1)
    assert distance(real, real).tolist() == [0, 0]
    near, far = distance(real, 0.9 * real + 0.1 * other), distance(real, other)
    assert near.shape == (2,)
    assert bool((near > 0).all())
    assert bool((far > near).all())
    torch.testing.assert_close(distance(real[1:], other[1:]), far[1:], rtol=1e-4, atol=0)
    moved = other.requires_grad_()
    distance(real, moved).sum().backward()
    assert moved.grad is not None
    assert bool(torch.isfinite(moved.grad).all())
    assert bool((moved.grad != 0).any())


def test_multiscale_minds_a_shift_less_than_a_change_of_level_of_the_same_l1() -> None:
    real = as_image(torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0)))
    shifted = real.roll(1, dims=2)
    louder = real + (shifted - real).abs().mean()
    coarse: Any = Multiscale()
    coarse.scales = (4, 8)
    assert float(coarse(real, shifted)) < 0.5 * float(coarse(real, louder))


def test_lpips_is_frozen_and_stays_in_evaluation_mode() -> None:
    lpips = Lpips().train()
    assert not lpips.training
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_lpips_reads_torchvisions_vgg_with_the_weights_per_channel_beside_it() -> None:
    lpips = Lpips()
    separate = {
        ("features." + name.split(".", 2)[2] if name.startswith("net.") else name): tensor
        for name, tensor in lpips.state_dict().items()
        if not name.startswith("scaling")
    }
    assert "features.28.weight" in separate
    loaded = lpips_from_official(separate | {"classifier.0.weight": torch.zeros(1)})
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, lpips.state_dict()[name])
