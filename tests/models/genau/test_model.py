"""GenAu as a whole: every kind of model, one step of its training, its sizes.

Also proves models/genau/config.py.
"""

import dataclasses
import json

import pytest
import torch
from torch import nn

from autorecap.models.genau.backbones.backbone import Backbone
from autorecap.models.genau.backbones.config import DiffusionConfig
from autorecap.models.genau.config import SIZES, GenAuConfig
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.sampling.diffusion import pad_latents
from autorecap.models.genau.text.conditioning import TextConfig, drop
from tests.support.tiny_genau import CONTEXT, FIT, TINY, UNET, built, close


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> GenAu:
    return built(TINY)


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(TINY, backbone=UNET),
        dataclasses.replace(TINY, diffusion=DiffusionConfig(prediction="v")),
        dataclasses.replace(
            TINY,
            text=TextConfig(t5="both"),
            backbone=dataclasses.replace(TINY.backbone, context=dataclasses.replace(CONTEXT, word_width=64)),
        ),
        dataclasses.replace(
            TINY,
            text=TextConfig(t5="none"),
            backbone=dataclasses.replace(TINY.backbone, context=dataclasses.replace(CONTEXT, summary_width=64)),
        ),
        dataclasses.replace(
            TINY,
            text=TextConfig(t5="none", clap=False),
            backbone=dataclasses.replace(TINY.backbone, context=dataclasses.replace(CONTEXT, summary_width=0)),
        ),
        dataclasses.replace(TINY, backbone=dataclasses.replace(FIT, self_conditioning=False)),
    ],
    ids=["unet", "v", "words", "clap alone", "no text", "no self-conditioning"],
)
def test_every_kind_of_model_generates_and_is_saved(config, tmp_path):
    model = built(config)
    prompts, seconds = ["rain", "a dog barks at the wind"], [0.5, 2.0]
    together = model.generate(prompts, seconds, num_steps=3)
    assert close(model.generate(prompts[:1], seconds[:1], num_steps=3)[0], together[0], 1e-3)
    model.save_pretrained(tmp_path)
    loaded = GenAu.from_pretrained(tmp_path)
    assert loaded.config == config
    assert all(
        torch.equal(*pair) for pair in zip(loaded.generate(prompts, seconds, num_steps=3), together, strict=True)
    )


# --- training


def test_clips_become_latents_of_their_own_length(model):
    noise = torch.randn(2, 48_000)
    latents = model.encode_audio([noise, noise[0, :24_000], noise[0, :1], torch.randn(48_000 * 9)], 48_000)
    assert [tuple(z.shape) for z in latents] == [(16, 25), (16, 13), (16, 1), (16, 96)]
    assert torch.equal(model.encode_audio([noise], 48_000)[0], latents[0])
    sampled = [model.encode_audio([noise], 48_000, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(sampled[0], sampled[1]) and not torch.equal(sampled[0], sampled[2])
    assert model.decode(latents[0]).shape == (16_000,)
    doubled = built(TINY)
    doubled.scale_factor.fill_(1.0)
    torch.testing.assert_close(doubled.encode_audio([noise], 48_000)[0], 2 * latents[0])
    torch.testing.assert_close(doubled.decode(2 * latents[0]), model.decode(latents[0]))
    for bad in (torch.zeros(0), torch.tensor([float("nan")] * 100)):
        with pytest.raises(ValueError, match="waveform 1: "):
            model.encode_audio([noise, bad], 48_000)


def test_a_few_steps_of_training_lower_the_loss_and_reach_every_weight():
    model = built(dataclasses.replace(TINY, backbone=dataclasses.replace(FIT, self_conditioning=False)))
    latents = model.encode_audio([torch.randn(16_000), torch.randn(40_000)], 16_000)
    x0, mask = pad_latents(latents, model.backbone.frames_multiple)
    assert x0.shape == (2, 16, 64)
    condition = drop(
        model.condition(["rain", "wind"], ["audiocaps", "autocap"]),
        model.unconditional(),
        torch.tensor([True, False]),
    )
    generator = torch.Generator().manual_seed(1)
    timesteps = model.diffusion.draw_timesteps(2, generator)
    noise = torch.randn(x0.shape, generator=generator)
    optimizer = torch.optim.Adam(model.backbone.parameters(), lr=2e-3)
    losses = []
    for step in range(30):
        output = model.backbone(model.diffusion.q_sample(x0, noise, timesteps), timesteps, *condition, mask).eps
        loss = model.diffusion.loss(output, x0, noise, timesteps, mask)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert [name for name, p in model.backbone.named_parameters() if p.grad is None] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


# --- sizes


@pytest.mark.parametrize(("size", "millions"), [("s", 493.366344), ("l", 1_252.937288)])
def test_the_papers_sizes_have_the_papers_parameters(size, millions):
    with torch.device("meta"):
        model = GenAu(SIZES[size])

    def number(part: nn.Module) -> int:
        return sum(p.numel() for p in part.parameters())

    assert number(model.backbone) / 1e6 == pytest.approx(millions, abs=1e-7)
    assert number(model.vae) == 168_240_640 + 223_316_544 + 65_664 + 16_640
    assert number(model.vocoder) == 55_264_897
    assert isinstance(model.backbone, Backbone) and model.config.max_seconds == 10.24


def test_configs_survive_json():
    for config in (*SIZES.values(), TINY, SIZES["l"].as_released()):
        assert GenAuConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_new_demo_model_needs_nothing_and_its_seed_decides():
    before = torch.random.get_rng_state()
    first, again, other = GenAu.new("demo"), GenAu.new("demo"), GenAu.new("demo", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.parts().state_dict() for model in (first, again, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    name = "backbone.patch_in.weight"
    assert not torch.equal(weights[0][name], weights[2][name])
    assert first.generate(["rain"], 0.5, num_steps=2)[0].shape == (8_000,)
    with pytest.raises(ValueError, match="size is 'xl': choose one of demo, s, l, unet"):
        GenAu.new("xl")
