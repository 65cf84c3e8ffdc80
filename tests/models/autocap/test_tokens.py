"""AutoCap's tokenizer: any text survives it, metadata keep their tags, labels are framed.

Also proves models/bpe.py, its byte pairs.
"""

import pytest

from autorecap.demo import sentences
from autorecap.models.autocap import SIZES, CaptionTokenizer
from autorecap.models.autocap.tokens import IGNORE, TAGS
from autorecap.models.bpe import BOS, EOS, PAD


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(sentences.corpus(), SIZES["demo"].bart.vocab)


@pytest.mark.parametrize("text", ["A dog barks", "日本語のタイトル 🎥", "Ünïcödé", "a\ttab", "</s><TITLE>"])
def test_any_text_survives_the_tokenizer(tokenizer: CaptionTokenizer, text: str) -> None:
    ids = tokenizer.encode_text(text)
    assert max(ids) < tokenizer.vocab
    assert not {BOS, PAD, EOS} & set(ids)  # a text that looks like a token is still text
    assert tokenizer.decode(ids) == " ".join(text.split())


def test_half_a_character_is_no_error(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.encode_text("broken \ud83d title")


def test_metadata_is_the_picture_then_the_title_each_in_its_tags(tokenizer: CaptionTokenizer) -> None:
    tag = {name: tokenizer.vocab + i for i, name in enumerate(TAGS)}
    ids = tokenizer.metadata_ids("My dog", "a park", 100)
    between = tokenizer.encode_text(" \n ")
    assert ids == [
        tag["<HQVC>"], *tokenizer.encode_text(" a park "), tag["</HQVC>"], *between,
        tag["<TITLE>"], *tokenizer.encode_text(" My dog "), tag["</TITLE>"],
    ]  # fmt: skip


def test_metadata_that_is_too_long_keeps_its_tags(tokenizer: CaptionTokenizer) -> None:
    ids = tokenizer.metadata_ids("title " * 500, "short", 64)
    assert len(ids) == 64
    assert [i - tokenizer.vocab for i in ids if i >= tokenizer.vocab] == [0, 1, 4, 5]
    assert ids[1 : 1 + len(tokenizer.encode_text(" short "))] == tokenizer.encode_text(" short ")


def test_each_row_of_metadata_ends_with_eos_then_masked_padding(tokenizer: CaptionTokenizer) -> None:
    ids, mask = tokenizer.metadata(["", "A long title about the sea"], ["", ""], 96)
    for row, row_mask in zip(ids, mask, strict=True):
        length = int(row_mask.sum())
        assert row[length - 1] == EOS
        assert bool((row[length:] == PAD).all())
        assert not bool(row_mask[length:].any())


def test_labels_are_framed_and_padded_with_what_the_loss_ignores(tokenizer: CaptionTokenizer) -> None:
    labels = tokenizer.labels(["Rain falls", "A dog barks several times " * 20], 30)
    assert labels.shape == (2, 30)
    assert labels[:, 0].tolist() == [BOS, BOS]
    assert labels[1, -1] == EOS
    assert labels[0, -1] == IGNORE
    assert tokenizer.decode([i for i in labels[0].tolist() if i != IGNORE]) == "Rain falls"
