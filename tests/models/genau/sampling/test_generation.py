"""Prompts to sounds: lengths, batches, seeds, guidance, candidates, and what is refused before the work."""

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from autorecap.models.genau.model import SAMPLE_RATE_HZ, GenAu
from autorecap.models.genau.sampling.generation import SILENT_PEAK
from tests.support.tiny_genau import FIT, TINY, built, close


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> GenAu:
    return built(TINY)


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
    no: dict[str, Any] = {}
    usual, other = (model.generate(["rain"], 0.5, num_steps=3, **options)[0] for options in (no, change))
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
        generate = partial(model.generate, ["a", "b"], 1.28, num_steps=3, guidance_scale=scale)
        run = calls(model, generate)
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
    backbone = dataclasses.replace(FIT, max_frames=1_536, num_latents=48)
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
    assert silent.vocoder.conv_post.bias is not None
    nn.init.constant_(silent.vocoder.conv_post.bias, SILENT_PEAK / 2)
    assert silent.generate(["rain"], 0.5, num_steps=1)[0].abs().max() == pytest.approx(SILENT_PEAK / 2, rel=1e-3)
    plain, scaled = (model.generate(["rain"], 0.5, num_steps=1, peak=peak)[0] for peak in (None, 0.5))
    torch.testing.assert_close(scaled, plain * (0.5 / plain.abs().max()))


@pytest.mark.parametrize("part", ["backbone", "vae", "vocoder"])
def test_a_sound_that_is_nan_is_an_error_that_names_its_prompt(part):
    broken = built(TINY)
    next(getattr(broken, part).parameters()).data.fill_(float("nan"))
    if part == "vae":
        assert broken.vae.post_quant_conv.bias is not None
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
