"""FIT: what each of its parts promises. official/test_fit.py tests that it is the official model.

Also proves models/genau/backbones/backbone.py, models/genau/backbones/layers.py, models/genau/backbones/groups.py and
models/genau/backbones/config.py.
"""

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES, ContextConfig, FitConfig
from autorecap.models.genau.backbones.fit import Fit

TINY = FitConfig(
    size="tiny",
    channels=8,
    max_frames=32,
    group_size=8,
    num_latents=16,
    patch_width=64,
    latent_width=96,
    num_blocks=2,
    global_layers=2,
    head_width=16,
    context=ContextConfig(width=80, summary_width=48),
)
TINY_PATCH2 = dataclasses.replace(TINY, patch_size=2, group_size=4, local_layers=1, global_layers=1)


@pytest.fixture(scope="module")
def fit() -> Fit:
    torch.manual_seed(0)
    return Fit(TINY).eval()


def inputs(config: FitConfig, batch: int = 2, frames: int | None = None) -> tuple[Tensor, Tensor, Text, Tensor]:
    x = torch.randn(batch, config.channels, frames or config.max_frames)
    text = Text(torch.randn(batch, config.context.summary_width))
    return x, torch.randint(1_000, (batch,)), text, torch.randint(config.context.num_datasets, (batch,))


def sound(*lengths: int, frames: int = TINY.max_frames) -> Tensor:
    return torch.arange(frames) < torch.tensor(lengths)[:, None]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Within a share of the largest value."""
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < tolerance, f"{error:.2e}"


# --- shapes, gradients, determinism


@pytest.mark.parametrize("frames", [8, 16, 32])
def test_noise_has_the_shape_of_the_latent(fit: Fit, frames: int) -> None:
    prediction = fit(*inputs(TINY, frames=frames))
    assert prediction.eps.shape == (2, 8, frames)
    assert prediction.latents.shape == (2, frames // 8 * 4, 96)


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 2, "group_size": 4},  # Table 10: patch size, number of latents
        {"num_latents": 24},
        {"num_latents": 4},
        {"channels": 16},  # Table 11
        {"patch_width": 128},  # wider patches than latents
        {"context": ContextConfig(width=32, summary_width=0)},  # neither text encoder
        {"context": ContextConfig(width=128, summary_width=16)},  # one of them
        {"self_conditioning": False},
        {"local_layers": 1, "global_layers": 1, "num_blocks": 1},
    ],
    ids=str,
)
def test_every_ablation_is_a_config(change: dict) -> None:
    config = dataclasses.replace(TINY, **change)
    model = Fit(config)
    x, timesteps, text, ids = inputs(config)
    prediction = model(x, timesteps, text if config.context.summary_width else Text(), ids)
    assert prediction.eps.shape == x.shape
    assert prediction.latents.shape == (2, config.num_latents, 96)
    prediction.eps.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "change",
    [
        {"num_latents": 384},  # Table 10
        {"num_latents": 192},
        {"num_latents": 128},
        {"patch_size": 2},
        {"context": ContextConfig(summary_width=1_024)},  # FLAN-T5 alone
        {"context": ContextConfig(summary_width=512)},  # CLAP alone
        {"channels": 128},  # Table 11
        {"channels": 256},
    ],
    ids=str,
)
def test_the_ablations_of_the_paper_can_be_built(change: dict) -> None:
    config = dataclasses.replace(SIZES["s"], **change)
    with FakeTensorMode():
        model = Fit(config)
        x = torch.empty(1, config.channels, 256)
        text = Text(torch.empty(1, config.context.summary_width))
        assert model(x, torch.empty(1), text, torch.zeros(1, dtype=torch.long)).eps.shape == x.shape


def test_gradients_reach_the_input_the_text_and_every_trained_weight(fit: Fit) -> None:
    x, timesteps, text, ids = inputs(TINY)
    assert text.summary_BW is not None
    x.requires_grad_()
    text.summary_BW.requires_grad_()
    fit.zero_grad()
    fit(x, timesteps, text, ids).eps.square().sum().backward()
    for tensor in (x, text.summary_BW, *(p for p in fit.parameters() if p.requires_grad)):
        assert tensor.grad is not None
        assert bool((tensor.grad != 0).any())


def test_the_same_input_gives_the_same_output_bit_for_bit(fit: Fit) -> None:
    given = inputs(TINY)
    assert torch.equal(fit(*given).eps, fit(*given).eps)


def test_dropout_acts_in_training_alone(fit: Fit) -> None:
    given = inputs(TINY)
    expected = fit(*given).eps
    try:
        assert not torch.equal(fit.train()(*given).eps, expected)
    finally:
        fit.eval()
    assert torch.equal(fit(*given).eps, expected)


def test_an_untrained_model_begins_like_the_official_one() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SIZES["yaml"], num_latents=32, max_frames=64)  # two of its eight groups
    x, timesteps, text, ids = inputs(config)
    with torch.inference_mode():
        eps = Fit(config)(x, timesteps, text, ids).eps
    assert 0.25 < float(eps.std()) < 0.41  # 0.33 there
    assert 1.0 < float((eps - torch.randn_like(eps)).square().mean()) < 1.2  # 1.10 there


def test_a_config_survives_its_file() -> None:
    assert FitConfig.from_dict(TINY.to_dict()) == TINY


# --- conditioning


def test_text_timestep_and_dataset_each_change_the_noise(fit: Fit) -> None:
    x, timesteps, text, ids = inputs(TINY)
    assert text.summary_BW is not None
    eps = fit(x, timesteps, text, ids).eps
    for other in (
        (x, timesteps, Text(-text.summary_BW), ids),
        (x, (timesteps + 1) % 1_000, text, ids),
        (x, timesteps, text, (ids + 1) % 32),
    ):
        assert not torch.equal(fit(*other).eps, eps)


def test_words_count_as_far_as_their_mask_says() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, context=ContextConfig(width=80, summary_width=48, word_width=24))
    model = Fit(config).eval()
    x, timesteps, text, ids = inputs(config)
    words = torch.randn(2, 5, 24)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    eps = model(x, timesteps, text._replace(words_BNW=words, word_mask_BN=mask), ids).eps
    padding = words.masked_fill(mask[..., None], 0) * 100
    other = model(x, timesteps, text._replace(words_BNW=words + padding, word_mask_BN=mask), ids).eps
    torch.testing.assert_close(eps, other, atol=1e-5, rtol=0)
    alone = Text(text.summary_BW[1:] if text.summary_BW is not None else None, words[1:, :3])
    torch.testing.assert_close(eps[1:], model(x[1:], timesteps[1:], alone, ids[1:]).eps, atol=1e-5, rtol=0)
    changed = words.clone()
    changed[1, 0] += 1
    assert not torch.equal(model(x, timesteps, text._replace(words_BNW=changed, word_mask_BN=mask), ids).eps[1], eps[1])


# --- durations


@pytest.mark.parametrize("config", [TINY, TINY_PATCH2], ids=["patch 1", "patch 2"])
def test_a_clip_among_longer_ones_is_what_it_is_alone(config: FitConfig) -> None:
    torch.manual_seed(0)
    model = Fit(config).eval()
    x, timesteps, text, ids = inputs(config, batch=4)
    assert text.summary_BW is not None
    lengths = (8, 32, 13, 24)  # one ends within a group, and within a patch of two
    x_loud = torch.where(sound(*lengths)[:, None], x, torch.full_like(x, 1e3))  # what is in the padding
    together = model(x_loud, timesteps, text, ids, mask_BT=sound(*lengths))
    for i, length in enumerate(lengths):
        frames = -(-length // 8) * 8
        alone = model(
            x[i : i + 1, :, :frames],
            timesteps[i : i + 1],
            Text(text.summary_BW[i : i + 1]),
            ids[i : i + 1],
            mask_BT=None if frames == length else sound(length, frames=frames),
        )
        torch.testing.assert_close(together.eps[i, :, :frames], alone.eps[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(together.latents[i, : frames // 2], alone.latents[0], atol=1e-5, rtol=0)
        assert not bool(together.eps[i, :, length:].any())
        assert not bool(together.latents[i, frames // 2 :].any())


def test_a_mask_of_sound_alone_changes_nothing(fit: Fit) -> None:
    given = inputs(TINY)
    assert torch.equal(fit(*given, mask_BT=sound(32, 32)).eps, fit(*given).eps)


def test_padding_gets_no_gradient_and_gives_none(fit: Fit) -> None:
    x, *rest = inputs(TINY)
    x.requires_grad_()
    fit(x, *rest, mask_BT=sound(11, 32)).eps.square().sum().backward()
    assert x.grad is not None
    assert not bool(x.grad[0, :, 11:].any())
    assert bool((x.grad[0, :, :11] != 0).all())


def test_latents_of_the_step_before_pass_through_a_mixed_batch(fit: Fit) -> None:
    model = Fit(TINY).eval()
    nn.init.ones_(model.get_parameter("self_conditioning.1.weight"))
    x, timesteps, text, ids = inputs(TINY)
    assert text.summary_BW is not None
    first = model(x, timesteps, text, ids, sound(16, 32))
    second = model(x, timesteps, text, ids, sound(16, 32), first.latents)
    short = (x[:1, :, :16], timesteps[:1], Text(text.summary_BW[:1]), ids[:1])
    alone = model(*short, previous_latents=model(*short).latents)
    assert not torch.allclose(second.eps, first.eps)
    torch.testing.assert_close(second.eps[:1, :, :16], alone.eps, atol=1e-5, rtol=0)


def test_a_mixed_batch_costs_what_its_clips_cost_alone() -> None:
    config = dataclasses.replace(TINY, max_frames=128, num_latents=64)  # 16 groups
    model = Fit(config).eval()

    def cost(mask_BT: Tensor | None, batch: int, frames: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
            model(*inputs(config, batch, frames), mask_BT=mask_BT)
        return int(counter.get_total_flops())

    alone = cost(None, 1, 16) + cost(None, 1, 128)
    together = cost(sound(16, 128, frames=128), 2, 128)
    assert together < 1.03 * alone < 0.65 * cost(None, 2, 128)


# --- ways to run


def test_checkpointed_activations_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    model = Fit(dataclasses.replace(TINY, dropout=0.0)).train()
    given = inputs(TINY)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        model.checkpoint_activations(enabled)
        model(*given, mask_BT=sound(11, 32)).eps.square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bf16 weights"])
def test_bf16_is_near_fp32_and_gives_back_the_precision_of_its_input(autocast: bool) -> None:
    torch.manual_seed(0)
    model = Fit(TINY).eval()
    given = inputs(TINY)
    with torch.inference_mode():
        expected = model(*given)
        if not autocast:
            model.to(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = model(*given, mask_BT=sound(32, 32))
            model(*given, mask_BT=sound(11, 32), previous_latents=found.latents)
    assert found.eps.dtype == torch.float32
    close(found.eps, expected.eps, 3e-2)


def test_the_timestep_is_as_exact_in_bf16_as_in_fp32() -> None:
    torch.manual_seed(0)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    model = Fit(TINY).eval()
    expected = model.context.time(timesteps)
    model.load_state_dict(model.to(torch.bfloat16).state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.context.time(timesteps), expected)
    assert model.to("meta").context.time.frequencies.device.type == "meta"
    assert model.patch_in.weight.dtype == torch.bfloat16


@pytest.mark.slow  # compiles, by minutes on a loaded machine
def test_compiled_blocks_give_the_same_noise_and_gradients() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    model = Fit(dataclasses.replace(TINY, dropout=0.0, local_layers=1, global_layers=1)).train()
    given = inputs(TINY)

    def run(mask_BT: Tensor | None) -> list[Tensor]:
        model.zero_grad()
        eps = model(*given, mask_BT=mask_BT).eps
        eps.square().sum().backward()
        return [eps.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    masks = (None, sound(11, 32))
    names = list(model.state_dict())
    expected = [run(mask) for mask in masks]
    model.compile_blocks()
    assert list(model.state_dict()) == names
    for mask, values in zip(masks, expected, strict=True):
        for found, value in zip(run(mask), values, strict=True):
            torch.testing.assert_close(found, value, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_equal_blocks_and_other_masks_are_not_compiled_again() -> None:
    torch.compiler.reset()
    counters.clear()
    model = Fit(dataclasses.replace(TINY, num_blocks=4, local_layers=1, global_layers=1)).eval()
    model.compile_blocks("eager")
    with torch.inference_mode():
        for lengths in ((8, 32), (16, 32), (8, 24), (24, 24), (16, 8), (32, 16)):
            model(*inputs(TINY), mask_BT=sound(*lengths))
    assert counters["stats"]["unique_graphs"] <= 6  # of blocks and of last layers, by the kinds of masks


# --- what is refused


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 20), "20 frames, expected a multiple of 8 up to 32"),
        ((2, 8, 64), "64 frames, expected a multiple of 8 up to 32"),
        ((2, 8, 0), "0 frames"),
        ((2, 9, 32), r"expected \(batch, 8, frames\)"),
        ((2, 8, 32, 1), r"expected \(batch, 8, frames\)"),
    ],
)
def test_a_latent_of_another_shape_is_refused(fit: Fit, shape: tuple[int, ...], message: str) -> None:
    _, timesteps, text, ids = inputs(TINY)
    with pytest.raises(ValueError, match=message):
        fit(torch.randn(shape), timesteps, text, ids)


def test_a_mask_that_makes_no_sense_is_refused(fit: Fit) -> None:
    given = inputs(TINY)
    with pytest.raises(ValueError, match="a value per frame"):
        fit(*given, mask_BT=sound(8, 8, frames=16))
    with pytest.raises(ValueError, match="clip 1 of the batch has no frame of sound"):
        fit(*given, mask_BT=sound(8, 0))


def test_text_that_the_config_does_not_name_is_refused(fit: Fit) -> None:
    x, timesteps, text, ids = inputs(TINY)
    with pytest.raises(ValueError, match="summary_BW has width 0, but the backbone was built for 48"):
        fit(x, timesteps, Text(), ids)
    with pytest.raises(ValueError, match="words_BNW has width 5, but the backbone was built for 0"):
        fit(x, timesteps, text._replace(words_BNW=torch.randn(2, 3, 5)), ids)


def test_latents_of_another_model_are_refused(fit: Fit) -> None:
    given = inputs(TINY)
    with pytest.raises(ValueError, match=r"expected \(2, 16, 96\)"):
        fit(*given, previous_latents=torch.randn(2, 8, 96))
    without = Fit(dataclasses.replace(TINY, self_conditioning=False))
    with pytest.raises(ValueError, match="without self_conditioning"):
        without(*given, previous_latents=torch.randn(2, 16, 96))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_frames": 30}, "multiple of 8"),
        ({"num_latents": 15}, "15 latents do not divide into 4 groups"),
        ({"patch_width": 60}, "heads of 16"),
        ({"context": ContextConfig(width=81)}, "width 81"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"num_blocks": 0}, "num_blocks is 0"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_negative_widths_of_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="word_width is -1"):
        ContextConfig(word_width=-1)
