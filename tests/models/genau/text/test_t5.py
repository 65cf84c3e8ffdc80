"""FLAN-T5's encoder: read and saved as transformers does it, and refused by name where a file is broken."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from autorecap.models.files import ModelFilesError
from autorecap.models.genau.text.conditioning import TextEncoders
from autorecap.models.genau.text.t5 import T5Text
from tests.models.genau.text.test_conditioning import TEXTS, encoders


@pytest.fixture(scope="module")
def both() -> TextEncoders:
    return encoders("both")


@pytest.fixture(scope="module")
def flan(tmp_path_factory) -> Path:
    """A whole T5 of transformers' making, with a tokenizer like FLAN-T5's."""
    folder = tmp_path_factory.mktemp("flan")
    bpe = Tokenizer(models.Unigram())
    bpe.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    bpe.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(
        TEXTS * 3, trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>")
    )
    bpe.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    bpe.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )
    T5ForConditionalGeneration(config).eval().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["ours", "flan"])
def test_special_tokens_in_a_text_end_nothing(both, flan, kind):
    t5 = both.t5 if kind == "ours" else T5Text.from_pretrained(flan)
    ids, mask = t5.tokens(["</s> <pad>", "rain"])
    end, pad = t5.config.eos_token_id, t5.config.pad_token_id
    assert (ids[0] == end).sum() == 1 and ids[0, mask[0].sum() - 1] == end and not (ids[0][mask[0]] == pad).any()


def test_a_folder_of_flan_t5_is_read_as_transformers_reads_it(flan):
    ours = T5Text.from_pretrained(flan)
    theirs = T5EncoderModel.from_pretrained(flan).eval()
    tokenizer = Tokenizer.from_file(str(flan / "tokenizer.json"))
    for text in ("A dog barks", "rain  on a road", ""):
        ids, mask = ours.tokens([text])
        assert ids[0].tolist() == tokenizer.encode(text).ids
        with torch.inference_mode():
            torch.testing.assert_close(ours(ids, mask), theirs(input_ids=ids).last_hidden_state)


def test_a_saved_encoder_is_the_same_and_transformers_reads_it(flan, tmp_path):
    ours = T5Text.from_pretrained(flan)
    ours.save_pretrained(tmp_path / "a")
    T5Text.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()
    ids, mask = ours.tokens(TEXTS)
    theirs = T5EncoderModel.from_pretrained(tmp_path / "a").eval()
    with torch.inference_mode():
        found = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        torch.testing.assert_close(found, ours(ids, mask))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}", None])
def test_a_file_that_is_missing_or_broken_is_refused_by_name(flan, tmp_path, name, damage):
    folder = Path(shutil.copytree(flan, tmp_path / "t5"))
    data = (folder / name).read_bytes()
    if damage:
        (folder / name).write_bytes(damage(data))
    else:
        (folder / name).unlink()
    with pytest.raises(ModelFilesError, match=name.replace(".", r"\.")):
        T5Text.from_pretrained(folder)


def test_another_kind_of_model_is_refused(flan, tmp_path):
    folder = Path(shutil.copytree(flan, tmp_path / "t5"))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "bart"}))
    with pytest.raises(ModelFilesError, match=r"config\.json .*model_type is 'bart', expected 't5'"):
        T5Text.from_pretrained(folder)
    for change, said in (
        ({"vocab_size": 20}, "vocab_size is 20"),
        ({"d_ff": "x"}, "d_ff"),
        ({"d_ff": 0}, "t5: d_ff is 0"),
        ({"d_kv": None}, "d_kv"),
        ({"eos_token_id": -1}, "eos_token_id is -1"),
        ({"eos_token_id": None}, "eos_token_id is None"),
        ({"dense_act_fn": "x"}, "t5: 'x'"),
    ):
        (folder / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(ModelFilesError, match=said):
            T5Text.from_pretrained(folder)
