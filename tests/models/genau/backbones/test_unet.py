"""The U-Net backbone: the interface of FIT, and masks that leave a clip what it is alone."""

import dataclasses

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import ContextConfig, UNetConfig
from autorecap.models.genau.backbones.unet import UNet

TINY = UNetConfig(
    size="tiny",
    channels=8,
    max_frames=32,
    widths=(16, 32, 48),
    residual_layers=1,
    head_width=16,
    norm_groups=4,
    context=ContextConfig(width=40, summary_width=24),
)


@pytest.fixture(scope="module")
def unet() -> UNet:
    return alive(UNet(TINY)).eval()


def alive(model: UNet) -> UNet:
    """With weights in the layers that begin at zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.1)
    return model


def inputs(batch: int = 2, frames: int = 32) -> tuple[Tensor, Tensor, Text, Tensor]:
    x = torch.randn(batch, TINY.channels, frames)
    return x, torch.randint(1_000, (batch,)), Text(torch.randn(batch, 24)), torch.randint(32, (batch,))


def sound(*lengths: int, frames: int = 32) -> Tensor:
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def test_the_default_has_the_number_of_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet(UNetConfig()).parameters())
    assert count == 462_156_424
    assert round(count / 1e6) == 462  # Table 4


@pytest.mark.parametrize("frames", [4, 12, 32])
def test_noise_has_the_shape_of_the_latent(unet: UNet, frames: int) -> None:
    prediction = unet(*inputs(frames=frames))
    assert prediction.eps.shape == (2, 8, frames)
    assert prediction.latents is None


def test_gradients_reach_the_input_the_text_and_every_weight(unet: UNet) -> None:
    x, timesteps, text, ids = inputs()
    assert text.summary_BW is not None
    x.requires_grad_()
    text.summary_BW.requires_grad_()
    unet(x, timesteps, text, ids).eps.square().sum().backward()
    for tensor in (x, text.summary_BW, *unet.parameters()):
        assert tensor.grad is not None
        assert bool((tensor.grad != 0).any())


def test_the_same_input_gives_the_same_output_bit_for_bit(unet: UNet) -> None:
    given = inputs()
    assert torch.equal(unet(*given).eps, unet(*given).eps)


def test_text_timestep_and_dataset_each_change_the_noise(unet: UNet) -> None:
    x, timesteps, text, ids = inputs()
    assert text.summary_BW is not None
    eps = unet(x, timesteps, text, ids).eps
    for other in (
        (x, timesteps, Text(-text.summary_BW), ids),
        (x, (timesteps + 1) % 1_000, text, ids),
        (x, timesteps, text, (ids + 1) % 32),
    ):
        assert not torch.equal(unet(*other).eps, eps)


def test_a_clip_among_longer_ones_is_what_it_is_alone(unet: UNet) -> None:
    x, timesteps, text, ids = inputs(batch=4)
    assert text.summary_BW is not None
    lengths = (4, 32, 13, 24)
    x_loud = torch.where(sound(*lengths)[:, None], x, torch.full_like(x, 1e3))  # what is in the padding
    together = unet(x_loud, timesteps, text, ids, mask_BT=sound(*lengths)).eps
    for i, length in enumerate(lengths):
        frames = -(-length // 4) * 4
        alone = unet(
            x[i : i + 1, :, :frames],
            timesteps[i : i + 1],
            Text(text.summary_BW[i : i + 1]),
            ids[i : i + 1],
            mask_BT=None if frames == length else sound(length, frames=frames),
        ).eps
        torch.testing.assert_close(together[i, :, :length], alone[0, :, :length], atol=1e-4, rtol=0)
        assert not bool(together[i, :, length:].any())


def test_a_mask_of_sound_alone_changes_nothing(unet: UNet) -> None:
    given = inputs()
    assert torch.equal(unet(*given, mask_BT=sound(32, 32)).eps, unet(*given).eps)


def test_words_count_as_far_as_their_mask_says() -> None:
    config = dataclasses.replace(TINY, context=ContextConfig(width=40, summary_width=24, word_width=12))
    model = alive(UNet(config)).eval()
    x, timesteps, text, ids = inputs()
    words, mask = torch.randn(2, 5, 12), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    eps = model(x, timesteps, text._replace(words_BNW=words, word_mask_BN=mask), ids).eps
    other = words + words.masked_fill(mask[..., None], 0) * 100
    same = model(x, timesteps, text._replace(words_BNW=other, word_mask_BN=mask), ids).eps
    torch.testing.assert_close(eps, same, atol=1e-5, rtol=0)


def test_checkpointed_activations_give_the_same_gradients() -> None:
    model = alive(UNet(dataclasses.replace(TINY, dropout=0.0))).train()
    given = inputs()
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        model.checkpoint_activations(enabled)
        model(*given).eps.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_bf16_is_near_fp32_and_gives_back_the_precision_of_its_input(unet: UNet) -> None:
    given = inputs()
    expected = unet(*given, mask_BT=sound(13, 32)).eps
    with torch.autocast("cpu", torch.bfloat16):
        found = unet(*given, mask_BT=sound(13, 32)).eps
    assert found.dtype == torch.float32
    assert bool((found - expected).abs().max() < 0.1 * expected.abs().max())


@pytest.mark.slow  # compiles
def test_compiled_stages_give_the_same_noise() -> None:
    model = alive(UNet(TINY)).eval()
    given = inputs()
    masks = (None, sound(13, 32))
    expected = [model(*given, mask_BT=mask).eps for mask in masks]
    model.compile_blocks("aot_eager")
    for mask, eps in zip(masks, expected, strict=True):
        torch.testing.assert_close(model(*given, mask_BT=mask).eps, eps, atol=1e-4, rtol=1e-3)


def test_what_does_not_fit_is_refused(unet: UNet) -> None:
    x, timesteps, text, ids = inputs()
    with pytest.raises(ValueError, match="30 frames, expected a multiple of 4 up to 32"):
        unet(x[..., :30], timesteps, text, ids)
    with pytest.raises(ValueError, match="clip 0 of the batch has no frame of sound"):
        unet(x, timesteps, text, ids, mask_BT=sound(0, 8))
    with pytest.raises(ValueError, match="has no latents"):
        unet(x, timesteps, text, ids, previous_latents=torch.zeros(2, 4, 8))
    with pytest.raises(ValueError, match="a width of 20 does not divide"):
        dataclasses.replace(TINY, widths=(20,))
    with pytest.raises(ValueError, match="widths is empty"):
        dataclasses.replace(TINY, widths=())
    with pytest.raises(ValueError, match="set max_frames to a multiple of 4, not 30"):
        dataclasses.replace(TINY, max_frames=30)


def test_a_config_survives_its_file() -> None:
    assert UNetConfig.from_dict(TINY.to_dict()) == TINY
