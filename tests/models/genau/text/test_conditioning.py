"""What GenAu is conditioned on: text encoders, datasets, condition dropout."""

import dataclasses
from typing import Any

import pytest
import torch

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import ContextConfig
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.model import small_encoders
from autorecap.models.genau.text.conditioning import DATASETS, Condition, TextConfig, TextEncoders, concat, drop
from autorecap.models.genau.text.t5 import MAX_TOKENS, pool

TEXTS = ["Rain falls", "A dog barks while a car passes on a wet road", "", "Wind"]
ODD_TEXTS = ["", " \n\t ", "雨が降る", "собака лает", "\ud800 rain \udfff", "</s><pad></s>", "\x00", "🐕" * 50]


def encoders(t5: str = "summary", clap: bool = True) -> TextEncoders:
    torch.manual_seed(0)
    return small_encoders(dataclasses.replace(SIZES["demo"], text=TextConfig(t5=t5, clap=clap))).eval()


@pytest.fixture(scope="module")
def both() -> TextEncoders:
    return encoders("both")


# --- texts


@pytest.mark.parametrize(
    ("t5", "clap", "summary", "words"),
    [
        ("summary", True, 128, 0),
        ("words", True, 64, 64),
        ("both", True, 128, 64),
        ("none", True, 64, 0),
        ("summary", False, 64, 0),
        ("none", False, 0, 0),
    ],
)
def test_every_choice_of_encoders_gives_the_widths_of_its_context(t5, clap, summary, words):
    text = encoders(t5, clap)
    text.check_widths(ContextConfig(summary_width=summary, word_width=words))
    found = text.encode(TEXTS)
    assert (found.summary_BW is None) == (summary == 0) and (found.words_BNW is None) == (words == 0)
    if found.summary_BW is not None:
        assert found.summary_BW.shape == (4, summary)
    if found.words_BNW is not None and found.word_mask_BN is not None:
        assert found.words_BNW.shape == (4, found.word_mask_BN.sum(dim=1).max(), words)
    with pytest.raises(ValueError, match="take the encoders that the model was trained with"):
        text.check_widths(ContextConfig(summary_width=summary + 1, word_width=words))


def test_a_texts_vectors_do_not_depend_on_its_batch(both):
    together = both.encode(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = both.encode([text])
        num_words = alone.words_BNW.shape[1]
        torch.testing.assert_close(alone.summary_BW[0], together.summary_BW[i], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(alone.words_BNW[0], together.words_BNW[i, :num_words], atol=1e-5, rtol=1e-5)
        assert together.word_mask_BN[i].sum() == num_words


def test_clap_comes_first_and_the_mean_of_t5s_words_last(both):
    found = both.encode(TEXTS)
    torch.testing.assert_close(found.summary_BW[:, :64], both.clap.embed(TEXTS))
    torch.testing.assert_close(found.summary_BW[:, 64:], pool(found.words_BNW, found.word_mask_BN))


def test_encoding_is_deterministic_without_gradient_and_calling_learns(both):
    expected = both.encode(TEXTS)
    both.train()
    try:
        again = both.encode(TEXTS)
        assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True)) and both.training
        assert not again.summary_BW.requires_grad
        both(TEXTS).summary_BW.square().mul(torch.arange(128)).sum().backward()
        assert [name for name, p in both.named_parameters() if p.grad is None] == []
    finally:
        both.zero_grad()
        both.eval()


def test_the_empty_text_is_encoded_once_until_the_weights_may_have_changed(both):
    first = both.encode_empty()
    assert both.encode_empty() is first and first.summary_BW.shape == (1, 128)
    with torch.no_grad():
        both.train()
        weight = both.t5.encoder.encoder.final_layer_norm.weight
        weight.mul_(2)
        both.eval()
    changed = both.encode_empty()
    torch.testing.assert_close(changed.summary_BW[:, 64:], 2 * first.summary_BW[:, 64:])
    with torch.no_grad():
        weight.div_(2)
    assert both.double().float().encode_empty() is not changed
    with torch.inference_mode():
        both.train().eval()
        made = both.encode_empty()
    assert not made.summary_BW.is_inference()  # so training may use it


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_has_vectors(both, text):
    assert both.encode([text, "rain"]).summary_BW.isfinite().all()
    assert both.overlong([text]) == [] or len(text) > 40


def test_a_text_that_is_too_long_loses_its_end_and_is_named(both):
    long = "rain on a tin roof " * 550  # over 10,000 characters
    ids, _ = both.t5.tokens([long, "rain"])
    assert ids.shape == (2, MAX_TOKENS) and ids[0, -1] == both.t5.config.eos_token_id
    [(index, cut)] = both.overlong(["rain", long])
    assert index == 1 and cut == "T5 reads 128 tokens, CLAP reads 64"
    torch.testing.assert_close(both.encode([long]), both.encode([long + "and a dog"]))


def test_encoders_that_the_model_has_not_are_refused():
    text = encoders()
    with pytest.raises(ValueError, match="asks for no t5 encoder, but one was given"):
        TextEncoders(TextConfig(t5="none"), t5=text.t5, clap=text.clap)
    with pytest.raises(ValueError, match="asks for a clap encoder, but none was given"):
        TextEncoders(TextConfig(), t5=text.t5)
    with pytest.raises(ValueError, match="t5 is 'mean': write one of none, summary, words, both"):
        TextConfig(t5="mean")


# --- datasets


def test_datasets_have_their_released_ids_and_the_unconditional_one_its_own():
    config = SIZES["s"]
    assert [config.dataset_id(name) for name in DATASETS] == list(range(10))
    assert config.dataset_id("audiocaps") == 0 and config.unconditional_dataset == 31
    assert config.as_released().unconditional_dataset == 0
    with pytest.raises(ValueError, match="dataset 'AudioCaps' is not one of the model's: audiocaps, clotho"):
        config.dataset_id("AudioCaps")
    with pytest.raises(ValueError, match="need room"):
        dataclasses.replace(config, unconditional_dataset=32)


# --- batches of conditions, dropout


def condition(num_words: int, value: int, batch: int = 3, width: int = 4) -> Condition:
    mask = torch.ones(batch, num_words, dtype=torch.bool)
    words = torch.full((batch, num_words, width), float(value))
    return Condition(Text(torch.full((batch, width), float(value)), words, mask), torch.full((batch,), value))


@pytest.mark.parametrize(("words", "blank_words"), [(5, 1), (1, 5)])
def test_a_dropped_clip_is_the_unconditional_one_and_the_others_stay(words, blank_words):
    given, blank = condition(words, 7), condition(blank_words, 2, batch=1)
    found = drop(given, blank, torch.tensor([False, True, False]))
    assert found.dataset_ids_B.tolist() == [7, 2, 7]
    text: Any = found.text
    assert text.summary_BW[:, 0].tolist() == [7, 2, 7]
    assert text.word_mask_BN.sum(dim=1).tolist() == [words, blank_words, words]
    kept = [row[mask].unique().tolist() for row, mask in zip(text.words_BNW, text.word_mask_BN, strict=True)]
    assert kept == [[7], [2], [7]]


def test_dropping_keeps_gradients_of_texts_that_stay():
    given = condition(2, 7)
    summary = given.text.summary_BW.clone().requires_grad_()
    given = given._replace(text=Text(summary))
    drop(given, Condition(Text(torch.zeros(1, 4)), torch.tensor([2])), torch.tensor([False, True, False])).text[
        0
    ].sum().backward()
    assert summary.grad.sum(dim=1).tolist() == [4, 0, 4]


def test_batches_with_different_numbers_of_words_are_joined():
    found = concat([condition(2, 7), condition(5, 2, batch=1)])
    assert found.dataset_ids_B.tolist() == [7, 7, 7, 2]
    assert found.text.words_BNW.shape == (4, 5, 4)
    assert found.text.word_mask_BN.sum(dim=1).tolist() == [2, 2, 2, 5]
    without = concat([Condition(Text(), torch.tensor([1])), Condition(Text(), torch.tensor([2]))])
    assert without.text == Text() and without.dataset_ids_B.tolist() == [1, 2]
