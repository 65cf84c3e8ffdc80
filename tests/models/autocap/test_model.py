"""AutoCap as a whole: its input, its loss, and what the bundled model hears."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from autorecap.demo import scenes, sentences
from autorecap.demo.sounds import KINDS, MUSIC, SPEECH, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.audio import resample
from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer
from autorecap.models.autocap.model import caption_loss
from autorecap.models.autocap.pretrained import FILES
from autorecap.models.autocap.tokens import IGNORE, TAGS
from autorecap.models.bpe import BOS, EOS

SEED = 77_777  # of the sounds here: neither trained on nor used to choose the model
RATE = SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(sentences.corpus(), SIZES["demo"].bart.vocab)


@pytest.fixture(scope="module")
def untrained(tokenizer: CaptionTokenizer) -> AutoCap:
    torch.manual_seed(0)
    return AutoCap(SIZES["demo"], tokenizer).eval()


@pytest.fixture(scope="module")
def demo() -> AutoCap:
    torch.set_num_threads(1)
    return AutoCap.from_pretrained(AutoCap.DEMO)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng([SEED, *seed])


def clip(kind: str, seconds: float, seed: int = 0) -> np.ndarray:
    return synthesise(kind, seconds, rng(KINDS.index(kind), seed))


# --- the whole


def test_shapes_from_waveform_to_logits(untrained: AutoCap, tokenizer: CaptionTokenizer) -> None:
    config = untrained.config
    with torch.inference_mode():
        x_BS = untrained.prepare([clip("rain", 1.5), clip("dog", 10)], RATE)
        features = untrained.features(x_BS)
        heard = untrained.hear(features)
        ids, mask = tokenizer.metadata(["a", "b c d"], ["", ""], 96)
        labels = tokenizer.labels(["Rain falls", "A dog barks"], 30)
        embeddings, input_mask = untrained.encoder_input(heard, ids, mask)
        logits = untrained(heard, ids, mask, labels)
    assert x_BS.shape == (2, 320_000)
    assert features.htsat.shape == features.clap.shape == (2, 1_001, 64)
    assert heard.vectors.shape == (2, 32, config.htsat.out_width)
    assert heard.clap.shape == (2, config.clap_width)
    torch.testing.assert_close(heard.clap.norm(dim=-1), torch.ones(2))
    length = 1 + 1 + config.qformer.num_queries + 1 + ids.shape[1]  # clap, boa, audio, eoa, metadata
    assert embeddings.shape == (2, length, config.bart.width)
    assert input_mask.shape == (2, length)
    assert logits.shape == (2, labels.shape[1], config.bart.vocab)


def test_the_encoder_input_is_equation_3(untrained: AutoCap, tokenizer: CaptionTokenizer) -> None:
    with torch.inference_mode():
        heard = untrained.hear(untrained.features(untrained.prepare([clip("bell", 3)], RATE)))
        ids, mask = tokenizer.metadata(["Old bell"], ["a tower"], 96)
        embeddings = untrained.encoder_input(heard, ids, mask)[0][0]
        queries = untrained.config.qformer.num_queries
        torch.testing.assert_close(embeddings[0], untrained.clap_norm(untrained.clap_in(heard.clap))[0])
        torch.testing.assert_close(embeddings[1], untrained.words.weight[BOS])
        torch.testing.assert_close(embeddings[2 : 2 + queries], untrained.encode_audio(heard.vectors)[0])
        torch.testing.assert_close(embeddings[2 + queries], untrained.eoa)
        torch.testing.assert_close(embeddings[3 + queries], untrained.tags.weight[TAGS.index("<HQVC>")])
        torch.testing.assert_close(embeddings[-2], untrained.tags.weight[TAGS.index("</TITLE>")])
        torch.testing.assert_close(embeddings[-1], untrained.words.weight[EOS])
        without = untrained.encoder_input(heard, None, None)[0][0]
        torch.testing.assert_close(without, embeddings[: 3 + queries])


def test_loss_and_generation_feed_bart_the_same(untrained: AutoCap, tokenizer: CaptionTokenizer) -> None:
    seen: list[dict[str, Any]] = []
    hook = untrained.bart.model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    try:
        with torch.inference_mode():
            heard = untrained.hear(untrained.features(untrained.prepare([clip("wind", 2), clip("dog", 4)], RATE)))
            ids, mask = tokenizer.metadata(["x", "longer title"], ["", "y"], 96)
            untrained(heard, ids, mask, tokenizer.labels(["a", "b"], 30))
            untrained.generate(heard, ids, mask, max_new_tokens=3)
    finally:
        hook.remove()
    assert len(seen) == 2
    assert torch.equal(seen[0]["inputs_embeds"], seen[1]["inputs_embeds"])
    assert torch.equal(seen[0]["attention_mask"], seen[1]["attention_mask"])


def test_a_batch_of_different_lengths_equals_its_clips_alone(demo: AutoCap) -> None:
    clips = [clip("rain", 1.0), clip("dog", 10.0), clip("bell", 4.3)]
    titles = ["", "A very long title about everything and nothing", "x"]
    labels = demo.tokenizer.labels(["Rain falls on a surface"] * 3, 30)

    def logits(chosen: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            heard = demo.hear(demo.features(demo.prepare([clips[i] for i in chosen], RATE)))
            ids, mask = demo.tokenizer.metadata([titles[i] for i in chosen], [""] * len(chosen), 96)
            return demo(heard, ids, mask, labels[: len(chosen)])

    together = logits([0, 1, 2])
    for i in range(3):
        torch.testing.assert_close(together[i], logits([i])[0], atol=1e-4, rtol=0)


def test_the_same_batch_gives_the_same_bits(demo: AutoCap) -> None:
    with torch.inference_mode():
        runs = []
        for _ in range(2):
            heard = demo.hear(demo.features(demo.prepare([clip("waves", 3), clip("siren", 7)], RATE)))
            runs.append(demo.encoder_input(heard, *demo.tokenizer.metadata(["a", ""], ["", ""], 96))[0])
    assert torch.equal(*runs)


def test_the_clap_token_and_the_audio_tokens_both_matter(demo: AutoCap) -> None:
    labels = demo.tokenizer.labels(["A dog barks"], 30)
    ids, mask = demo.tokenizer.metadata([""], [""], 96)
    with torch.inference_mode():
        dog, rain = (demo.hear(demo.features(demo.prepare([clip(k, 4)], RATE))) for k in ("dog", "rain"))
        right = caption_loss(demo(dog, ids, mask, labels), labels)
        other_vectors = caption_loss(demo(dog._replace(vectors=rain.vectors), ids, mask, labels), labels)
        other_clap = caption_loss(demo(dog._replace(clap=rain.clap), ids, mask, labels), labels)
    assert right < other_vectors
    assert abs(float(right - other_clap)) > 1e-4


def test_loss_ignores_padding_and_smooths_when_asked() -> None:
    logits = torch.randn(2, 5, 11)
    labels = torch.randint(0, 11, (2, 5))
    labels[1, 3:] = IGNORE
    kept = torch.cat([logits[0], logits[1, :3]])
    expected = -kept.log_softmax(-1).gather(1, torch.cat([labels[0], labels[1, :3]])[:, None]).mean()
    torch.testing.assert_close(caption_loss(logits, labels), expected)
    smooth = 0.9 * expected - 0.1 * kept.log_softmax(-1).mean()
    torch.testing.assert_close(caption_loss(logits, labels, 0.1), smooth)


def test_captioning_leaves_the_mode_alone_and_builds_no_graph(untrained: AutoCap) -> None:
    untrained.train()
    untrained.caption([clip("rain", 1)], RATE, max_new_tokens=2)
    assert untrained.training
    untrained.eval()
    assert untrained.caption([], RATE) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(0, np.float32), "waveform 1: .*at least one sample"),
        (np.full(RATE, np.nan, np.float32), "waveform 1: holds NaN"),
        (np.zeros(RATE // 20, np.float32), "waveform 1: lasts 0.050 s, too short"),
        (np.zeros((RATE, 2), np.float32), "waveform 1: .*transpose"),
        (np.zeros(3 * 3600 * 1000, np.int16), "waveform 1: lasts 337.50 s"),
        (np.zeros((2, 2, RATE), np.float32), "waveform 1: expected"),
        ("rain.wav", "waveform 1: expected a tensor or array of samples, found str"),
        (np.zeros(11 * RATE, np.float32), "waveform 1: lasts 11.00 s"),
    ],
)
def test_a_bad_waveform_is_named_by_its_index(untrained: AutoCap, bad: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        untrained.caption([clip("rain", 1), bad], RATE)


@pytest.mark.parametrize("rate", [0, -1, 32_000.5])
def test_a_sample_rate_that_is_none_is_refused(untrained: AutoCap, rate: Any) -> None:
    with pytest.raises(ValueError, match="the sample rate is"):
        untrained.caption([clip("rain", 1)], rate)


def test_titles_must_be_as_many_as_waveforms(untrained: AutoCap) -> None:
    with pytest.raises(ValueError, match="2 titles for 1 waveforms"):
        untrained.caption([clip("rain", 1)], RATE, ["a", "b"])
    with pytest.raises(ValueError, match="expected a list with one text per waveform"):
        untrained.caption([clip("rain", 1)], RATE, "a")


# --- the bundled model


def accuracy(
    model: AutoCap, kinds: tuple[str, ...], clips: list[Any], rate: int, titles: list[str] | None = None
) -> float:
    captions = [
        text
        for first in range(0, len(clips), 16)
        for text in model.caption(clips[first : first + 16], rate, titles[first : first + 16] if titles else None)
    ]
    return sum(sentences.names(text, kind) for text, kind in zip(captions, kinds, strict=True)) / len(kinds)


@pytest.fixture(scope="module")
def fresh() -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Three clips of every kind, 1 to 10 s long."""
    kinds = tuple(kind for kind in KINDS for _ in range(3))
    return kinds, [clip(kind, scenes.draw_seconds(rng(1, i)), seed=i) for i, kind in enumerate(kinds)]


def test_the_bundled_model_is_small() -> None:
    assert sum((AutoCap.DEMO / name).stat().st_size for name in FILES) < 8_000_000


def test_it_hears_what_it_never_heard_before(demo: AutoCap, fresh: Any) -> None:
    kinds, clips = fresh
    assert accuracy(demo, kinds, clips, RATE) >= 0.97


def test_it_listens_when_the_title_misleads(demo: AutoCap, fresh: Any) -> None:
    kinds, clips = fresh
    titles = [sentences.misleading_title([kind], rng(2, i)) for i, kind in enumerate(kinds)]
    assert accuracy(demo, kinds, clips, RATE, titles) >= 0.97


def test_it_hears_through_bad_recordings(demo: AutoCap, fresh: Any) -> None:
    kinds, clips = fresh
    bad = [scenes.degrade(x, rng(3, i)) for i, x in enumerate(clips)]
    assert accuracy(demo, kinds, bad, RATE) >= 0.97


def test_it_hears_at_other_rates_levels_and_in_stereo(demo: AutoCap, fresh: Any) -> None:
    kinds, clips = fresh
    for rate, chosen in ((44_100, slice(0, None, 3)), (16_000, slice(1, None, 3))):
        resampled = [resample(torch.from_numpy(x), RATE, rate)[: 10 * rate] for x in clips[chosen]]
        stereo = [(torch.stack([x, 0.8 * x]) * 0.1 * 32_767).to(torch.int16) for x in resampled]
        assert accuracy(demo, kinds[chosen], stereo, rate) >= 0.9


def test_it_names_both_of_two_sounds_most_of_the_time(demo: AutoCap) -> None:
    drawn = [scenes.draw_scene(SEED, index) for index in range(70)]
    pairs = [scene for scene in drawn if scene.composition != "single"]
    captions = demo.caption([scene.waveform for scene in pairs], RATE)
    named = [sum(sentences.names(text, k) for k in s.kinds) for text, s in zip(captions, pairs, strict=True)]
    assert sum(n >= 1 for n in named) / len(named) >= 0.97
    assert sum(n == 2 for n in named) / len(named) >= 0.8


def test_captions_of_ambient_sounds_never_name_speech_or_music(demo: AutoCap, fresh: Any) -> None:
    kinds, clips = fresh
    others = (*SPEECH, *MUSIC)
    chosen = [x for kind, x in zip(kinds, clips, strict=True) if kind not in others]
    captions = demo.caption(chosen, RATE)
    wrong = [text for text in captions if any(sentences.names(text, kind) for kind in others)]
    assert len(wrong) <= len(captions) // 20, wrong


def test_silence_and_noise_get_some_caption(demo: AutoCap) -> None:
    noise = (rng(4).standard_normal(RATE) * 1e-4).astype(np.float32)
    captions = demo.caption([np.zeros(RATE, np.int16), np.zeros(RATE // 10, np.int16), noise.astype(np.int16)], RATE)
    assert len(captions) == 3
    assert all(isinstance(text, str) for text in captions)


def test_captions_end_where_they_are_told_to(demo: AutoCap) -> None:
    short = demo.caption([clip("rain", 3)], RATE, max_new_tokens=3)[0]
    assert len(demo.tokenizer.encode_text(short)) <= 3
    beams = demo.caption([clip("rain", 3)], RATE, num_beams=1)[0]
    assert sentences.names(beams, "rain")
    assert math.isfinite(len(beams))
