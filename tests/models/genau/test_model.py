"""GenAu as a whole: prompts to sounds, its files, and one step of its training."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autorecap.models.autocap import AutoCap
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.models.files import CONFIG, WEIGHTS, ModelFilesError, read_weights
from autorecap.models.genau.backbones.backbone import Backbone
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.config import ContextConfig, DiffusionConfig, FitConfig, UNetConfig
from autorecap.models.genau.model import SAMPLE_RATE_HZ, GenAu, small_encoders
from autorecap.models.genau.recipe import SIZES, GenAuConfig
from autorecap.models.genau.sampling.diffusion import pad_latents
from autorecap.models.genau.sampling.generation import SILENT_PEAK
from autorecap.models.genau.sampling.ranking import ClapScorer
from autorecap.models.genau.text.conditioning import TextConfig, drop
from autorecap.models.genau.vae.model import VAEConfig
from autorecap.models.genau.vocoder.model import VocoderConfig

CONTEXT = ContextConfig(width=48, summary_width=128)
TINY = GenAuConfig(
    size="tiny",
    backbone=FitConfig(
        channels=16,
        max_frames=96,
        group_size=32,
        num_latents=24,
        patch_width=32,
        latent_width=48,
        num_blocks=1,
        local_layers=1,
        global_layers=1,
        head_width=16,
        context=CONTEXT,
    ),
    vae=VAEConfig(channels=16, width=64, blocks=1, multipliers=(1, 1, 1), inner_channels=16),
    vocoder=VocoderConfig(width=32, kernels=(3,), dilations=(1,)),
)


def built(config: GenAuConfig) -> GenAu:
    """An untrained model whose waveforms depend on their latents, which those of an untrained vocoder hardly do."""
    torch.manual_seed(0)
    model = GenAu(config, small_encoders(config)).eval()
    for layer in model.vocoder.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    if isinstance(model.backbone, Fit) and model.backbone.self_conditioning is not None:
        nn.init.constant_(model.backbone.self_conditioning[1].weight, 0.5)  # 0 at first: the latents had no effect
    model.scale_factor.fill_(0.5)
    return model


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> GenAu:
    return built(TINY)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


# --- generation


@pytest.mark.parametrize("seconds", [1e-5, 0.04, 0.5, 1.0 / 3, 1.28, 3.84])
@pytest.mark.parametrize("exact", [True, False])
def test_a_sound_has_exactly_the_samples_that_were_asked_for(model, seconds, exact):
    other = built(TINY if exact else TINY.as_released())
    [x] = other.generate(["rain"], seconds, num_steps=2)
    assert x.dtype == torch.float32 and x.shape == (max(1, round(seconds * 16_000)),) and x.isfinite().all()
    assert x.abs().max() == pytest.approx(0.8) and not x.is_inference()
    assert model.generate([], seconds) == [] and SAMPLE_RATE_HZ == 16_000


def test_a_sound_is_the_same_alone_and_in_any_batch(model):
    prompts, seconds = ["rain", "wind in the trees", "a dog barks", ""], [0.5, 3.84, 2.0, 1.28]
    together = model.generate(prompts, seconds, num_steps=5, seed=3)
    assert all(
        close(*pair)
        for pair in zip(model.generate(prompts, seconds, num_steps=5, seed=3, batch_size=2), together, strict=True)
    )
    for i in (2, 0, 3, 1):
        assert close(model.generate([prompts[i]], seconds[i], num_steps=5, seed=3)[0], together[i])
    assert not close(together[0], together[2][:8_000], 0.1)


def test_the_same_call_gives_the_same_samples(model):
    first = model.generate(["rain", "wind"], 1.0, num_steps=3)
    torch.manual_seed(99)
    model.backbone.train()
    again = model.generate(["rain", "wind"], 1.0, num_steps=3)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert model.backbone.blocks.training and not model.training and not model.vae.training  # each as it was
    model.eval()


def test_seed_prompt_and_repetition_each_change_the_sound(model):
    rain, again, wind = model.generate(["rain", "rain", "wind"], 0.5, num_steps=3)
    [other] = model.generate(["rain"], 0.5, num_steps=3, seed=1)
    sounds = [rain, again, wind, other]
    assert not any(close(a, b, 0.05) for i, a in enumerate(sounds) for b in sounds[:i])
    assert close(model.generate("rain", 0.5, num_steps=3)[0], rain)  # one prompt may come without its list


@pytest.mark.parametrize("change", [{"guidance_scale": 0}, {"guidance_scale": 1}, {"eta": 0.0}, {"dataset": "clotho"}])
def test_settings_change_the_sound(model, change):
    usual, other = (model.generate(["rain"], 0.5, num_steps=3, **options)[0] for options in ({}, change))
    assert other.isfinite().all() and not close(usual, other, 1e-3)


def calls(model: GenAu, run: Callable[[], Any]) -> list[tuple[int, bool]]:
    """The size of each batch that the backbone gets, and whether parts of it are masked."""
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), args[4] is not None)))
    try:
        run()
    finally:
        hook.remove()
    return seen


def test_guidance_costs_one_forward_and_none_where_it_is_not_needed(model):
    for scale, batch in ((4.0, 4), (1, 2), (0, 2)):
        run = calls(model, lambda scale=scale: model.generate(["a", "b"], 1.28, num_steps=3, guidance_scale=scale))
        assert run == [(batch, False)] * 3


def test_padding_is_masked_to_the_frame_or_as_released_not_at_all(model):
    released = built(TINY.as_released())
    assert calls(model, lambda: model.generate(["a"], 1.0, num_steps=1)) == [(2, True)]
    assert calls(released, lambda: released.generate(["a"], 1.0, num_steps=1)) == [(2, False)]
    assert calls(released, lambda: released.generate(["a", "b"], [1.0, 3.0], num_steps=1)) == [(4, True)]


@pytest.mark.parametrize("num_steps", [1, 1_000])
def test_one_step_and_a_thousand_are_steps(model, num_steps):
    seen: list[tuple[int, int]] = []
    [x] = model.generate(["rain"], 0.1, num_steps=num_steps, progress=lambda *done: seen.append(done))
    assert x.isfinite().all() and seen == [(i + 1, num_steps) for i in range(num_steps)]


def test_a_model_with_the_positions_for_it_makes_a_minute_of_sound():
    backbone = dataclasses.replace(TINY.backbone, max_frames=1_536, num_latents=48)
    model = built(dataclasses.replace(TINY, backbone=backbone))
    short, long = model.generate(["rain", "rain on a roof"], [0.5, 60], num_steps=1)
    assert (len(short), len(long)) == (8_000, 960_000) and long.isfinite().all()
    assert model.config.max_seconds == pytest.approx(61.44)


def test_progress_counts_all_batches(model):
    seen: list[tuple[int, int]] = []
    model.generate(["a"] * 5, 0.1, num_steps=2, batch_size=2, progress=lambda *done: seen.append(done))
    assert seen == [(i + 1, 6) for i in range(6)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0: write a whole number from 1 to 1000"),
        ({"num_steps": 1_001}, "num_steps is 1001"),
        ({"guidance_scale": -1.0}, "guidance_scale is -1.0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"seconds": 0}, "prompt 0: a duration of 0.0 s: write a number of seconds above 0"),
        ({"seconds": -2.0}, "a duration of -2.0 s"),
        ({"seconds": float("nan")}, "a duration of nan s"),
        ({"seconds": 60}, "prompt 0: 60 s, but this model makes sounds of up to 3.84 s"),
        ({"seconds": [1.0, 2.0]}, "2 durations for 1 prompts"),
        ({"seconds": [3.85]}, "up to 3.84 s"),
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"num_candidates": 3}, "there is no scorer to choose among them"),
        ({"dataset": "imagenet"}, "dataset 'imagenet' is not one of the model's"),
        ({"sampler": "euler"}, "sampler is 'euler'"),
        ({"eta": 2.0}, "eta is 2.0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"peak": 1.5}, "peak is 1.5"),
        ({"prompts": [None]}, "prompt 0 is a NoneType"),
    ],
)
def test_what_means_nothing_is_refused_before_the_work(model, change, message):
    def run():
        with pytest.raises(ValueError, match=message):
            model.generate(**{"prompts": ["rain"], **change})

    assert calls(model, run) == []


@pytest.mark.parametrize("prompt", ["", "雨が降る", "\ud800 rain", "</s>", "\x00", "🐕" * 20])
def test_any_text_is_a_prompt(model, prompt):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.generate([prompt], 0.2, num_steps=2)[0].isfinite().all()


def test_a_prompt_of_ten_thousand_characters_is_cut_with_a_warning(model):
    with pytest.warns(UserWarning, match="prompt 1 is not read to its end: T5 reads 128 tokens, CLAP reads 64"):
        out = model.generate(["rain", "rain on a roof. " * 625], 0.2, num_steps=2)
    assert len(out) == 2 and out[1].isfinite().all()


def test_silence_stays_silence_and_loudness_is_as_asked(model):
    silent = built(TINY)
    nn.init.zeros_(silent.vocoder.conv_post.weight)
    assert not silent.generate(["rain"], 0.5, num_steps=1)[0].any()
    nn.init.constant_(silent.vocoder.conv_post.bias, SILENT_PEAK / 2)
    assert silent.generate(["rain"], 0.5, num_steps=1)[0].abs().max() == pytest.approx(SILENT_PEAK / 2, rel=1e-3)
    plain, scaled = (model.generate(["rain"], 0.5, num_steps=1, peak=peak)[0] for peak in (None, 0.5))
    torch.testing.assert_close(scaled, plain * (0.5 / plain.abs().max()))


@pytest.mark.parametrize("part", ["backbone", "vae", "vocoder"])
def test_a_sound_that_is_nan_is_an_error_that_names_its_prompt(part):
    broken = built(TINY)
    next(getattr(broken, part).parameters()).data.fill_(float("nan"))
    if part == "vae":
        nn.init.constant_(broken.vae.post_quant_conv.bias, float("nan"))
    with pytest.raises(ValueError, match=r"prompt 0: .*NaN.*Try fp32"):
        broken.generate(["rain"], 0.5, num_steps=1)


def test_of_several_candidates_the_scorers_favourite_is_kept(model):
    asked: list[list[str]] = []

    def third(waveforms, texts):
        asked.append(list(texts))
        return [0.1, -0.5, 0.3][: len(waveforms)]

    candidates = model.generate(["rain"] * 3, 0.5, num_steps=2)
    [kept] = model.generate(["rain"], 0.5, num_steps=2, num_candidates=3, scorer=third)
    assert close(kept, candidates[2]) and asked == [["rain"] * 3]
    both = model.generate(["rain", "wind"], 0.5, num_steps=2, num_candidates=3, scorer=third, batch_size=2)
    assert close(both[0], kept) and len(both) == 2


def test_clap_scores_sounds_for_texts():
    captioner = AutoCap.from_pretrained(AutoCap.DEMO)
    tokenizer = BpeTokenizer.load(AutoCap.DEMO / "tokenizer.json")
    torch.manual_seed(0)
    scorer = ClapScorer(captioner, ClapText(TEXT_SIZES["demo"], tokenizer).eval())
    sounds = [torch.randn(16_000), torch.randn(170_000), torch.zeros(8_000)]
    scores = scorer(sounds, ["rain", "wind", ""])
    assert len(scores) == 3 and all(-1 <= score <= 1 for score in scores)
    assert scorer(sounds[:1], ["rain"]) == pytest.approx(scores[:1], abs=1e-5)
    other = ClapText(dataclasses.replace(TEXT_SIZES["demo"], joint_width=32), tokenizer)
    with pytest.raises(ValueError, match="vectors of 32 numbers, the captioner's CLAP of 64"):
        ClapScorer(captioner, other)


UNET = UNetConfig(channels=16, max_frames=96, widths=(32, 32), head_width=16, norm_groups=8, context=CONTEXT)


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
        dataclasses.replace(TINY, backbone=dataclasses.replace(TINY.backbone, self_conditioning=False)),
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
    model = built(dataclasses.replace(TINY, backbone=dataclasses.replace(TINY.backbone, self_conditioning=False)))
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


# --- files


def test_a_saved_model_is_the_same_to_the_byte(model, folder, tmp_path):
    loaded = GenAu.from_pretrained(folder)
    assert loaded.config == TINY and not loaded.training
    assert torch.equal(loaded.generate(["rain"], 1.0, num_steps=3)[0], model.generate(["rain"], 1.0, num_steps=3)[0])
    loaded.save_pretrained(tmp_path / "again")
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert names == {CONFIG, WEIGHTS} | {
        f"{part}/{n}" for part in ("t5", "clap") for n in (CONFIG, WEIGHTS, "tokenizer.json")
    }
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    prefixes = {name.split(".")[0] for name in read_weights(folder / WEIGHTS)}
    assert prefixes == {"backbone", "vae", "vocoder", "scale_factor"}


def test_the_backbone_may_be_bf16(model, folder):
    loaded = GenAu.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.backbone.blocks.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in (*loaded.vae.parameters(), *loaded.vocoder.parameters())} == {torch.float32}
    x, t = torch.randn(1, 16, 32), torch.tensor([500])
    condition = model.condition(["rain"], ["audiocaps"])
    with torch.inference_mode():
        found, expected = (m.backbone(x, t, *condition).eps for m in (loaded, model))
    assert not torch.equal(found, expected) and close(found, expected, 0.05 * float(expected.abs().max()))
    assert loaded.generate(["rain"], 0.5, num_steps=5)[0].isfinite().all()


def test_weights_may_be_stored_in_half_the_space(model, folder, tmp_path):
    model.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.6 * (folder / WEIGHTS).stat().st_size
    assert {p.dtype for p in GenAu.from_pretrained(tmp_path / "half").backbone.parameters()} == {torch.float32}


def test_in_half_the_space_the_timestep_and_the_scale_factor_stay_exact(model, tmp_path):
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    stored, own = read_weights(tmp_path / WEIGHTS), model.parts().state_dict()
    exact = {name for name in stored if stored[name].dtype == torch.float32}
    assert exact == {name for name in own if name.startswith("backbone.context.time.")} | {"scale_factor"}
    assert all(torch.equal(stored[name], own[name]) for name in exact)


def test_a_model_without_text_encoders_does_all_but_read_texts(model, folder):
    shutil.rmtree(folder / "t5")
    bare = GenAu.from_pretrained(folder, with_text=False)
    assert bare.text is None and torch.equal(bare.decode(torch.ones(16, 3)), model.decode(torch.ones(16, 3)))
    with pytest.raises(ValueError, match="made without its text encoders"):
        bare.generate(["rain"], 1.0)


@pytest.mark.parametrize("name", ["t5/model.safetensors", "t5/tokenizer.json", "clap/config.json", CONFIG, WEIGHTS])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelFilesError, match=name.replace(".", r"\.")):
        GenAu.from_pretrained(folder)


def test_text_encoders_may_lie_elsewhere(model, folder, tmp_path):
    for part in ("t5", "clap"):
        shutil.move(folder / part, tmp_path / part)
    with pytest.raises(ModelFilesError, match=r"t5/config\.json is missing.*google/flan-t5-large"):
        GenAu.from_pretrained(folder)
    loaded = GenAu.from_pretrained(folder, t5=tmp_path / "t5", clap=tmp_path / "clap")
    assert torch.equal(loaded.generate(["rain"], 0.5, num_steps=2)[0], model.generate(["rain"], 0.5, num_steps=2)[0])


@pytest.mark.parametrize("part", ["backbone.patch_in.weight", "vae.quant_conv.bias", "scale_factor", "t5"])
def test_weights_with_nan_are_refused_by_name(part, tmp_path):
    model = built(TINY)
    if part == "t5":
        part = "encoder.final_layer_norm.weight"
        model.text.t5.encoder.encoder.final_layer_norm.weight.data[3] = float("inf")
    else:
        model.parts().state_dict()[part].view(-1)[0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelFilesError, match=f"{part} holds NaN or infinity"):
        GenAu.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "autocap/1"}, "format is 'autocap/1', expected 'genau/1'"),
        ({"sized": 1}, "no setting is called sized"),
        ({"backbone": {"kind": "dit"}}, "kind is 'dit': write one of fit, unet"),
        ({"backbone": 3}, r"config\.json is not a config of GenAu"),
        ({"backbone": {"kind": "fit", "channels": 8}}, "channels is 8, but the VAE's latent has 16"),
        ({"text": {"clap": True, "t5": "none"}}, r"\(clap 64, t5 0, used as none\) give 64"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, message):
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | change))
    with pytest.raises(ModelFilesError, match=message):
        GenAu.from_pretrained(folder)


def test_damaged_weights_and_those_of_another_model_are_refused(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-10])
    with pytest.raises(ModelFilesError, match=r"model\.safetensors is damaged"):
        GenAu.from_pretrained(folder)
    other = dataclasses.replace(TINY, backbone=dataclasses.replace(TINY.backbone, patch_width=64))
    built(other).save_pretrained(folder)
    values = json.loads((folder / CONFIG).read_text())
    values["backbone"]["patch_width"] = 32
    (folder / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelFilesError, match="of another shape"):
        GenAu.from_pretrained(folder)
    with pytest.raises(ModelFilesError, match="no such folder"):
        GenAu.from_pretrained(folder / "nowhere")


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
