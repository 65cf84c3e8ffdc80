"""CLAP's text branch: vectors of texts, and the folders they come from."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import ClapConfig, ClapModel, ClapTextModelWithProjection

from autorecap.models.autocap import AutoCap
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText, ClapTextSize
from autorecap.models.files import ModelFilesError

TEXTS = ["Rain falls", "A dog barks while a car passes on a wet road", "", "Wind"]


@pytest.fixture(scope="module")
def tokenizer() -> BpeTokenizer:
    return BpeTokenizer.load(AutoCap.DEMO / "tokenizer.json")


@pytest.fixture(scope="module")
def model(tokenizer) -> ClapText:
    torch.manual_seed(0)
    return ClapText(TEXT_SIZES["demo"], tokenizer).eval()


@pytest.fixture
def folder(model, tmp_path) -> Path:
    model.save_pretrained(tmp_path / "text")
    return tmp_path / "text"


def test_a_text_has_a_unit_vector_of_the_joint_space(model):
    vectors = model.embed(TEXTS)
    assert vectors.shape == (4, 64)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(4))
    assert model.embed([]).shape == (0, 64)


def test_the_vector_of_a_text_does_not_depend_on_the_others_of_its_batch(model):
    together = model.embed(TEXTS)
    for i, text in enumerate(TEXTS):
        assert torch.allclose(model.embed([text])[0], together[i], atol=1e-6)


def test_embedding_is_deterministic_in_training_too(model):
    expected = model.embed(TEXTS)
    model.train()
    try:
        assert torch.equal(model.embed(TEXTS), expected) and model.training
        assert not torch.equal(model(*model.tokens(TEXTS)), expected)  # dropout
    finally:
        model.eval()


def test_every_weight_learns(tokenizer):
    model = ClapText(TEXT_SIZES["demo"], tokenizer)
    model(*model.tokens(TEXTS)).square().mul(torch.arange(64)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_long_text_loses_its_end_and_special_tokens_in_a_text_are_text(model):
    ids, mask = model.tokens(["rain " * 200, "</s><pad>"])
    assert ids.shape == mask.shape == (2, 64)
    assert ids[0, 0] == 0 and ids[0, -1] == 2 and mask[0].all()
    assert (ids[1] == 2).sum() == 1 and mask[1].sum() > 4


def test_a_saved_model_is_the_same_and_transformers_reads_it(model, folder):
    expected = model.embed(TEXTS)
    assert torch.equal(ClapText.from_pretrained(folder).embed(TEXTS), expected)
    theirs = ClapTextModelWithProjection.from_pretrained(folder).eval()
    ids, mask = model.tokens(TEXTS)
    with torch.inference_mode():
        assert torch.allclose(F.normalize(theirs(ids, mask).text_embeds, dim=-1), expected, atol=1e-6)


def test_the_same_model_is_saved_as_the_same_bytes(model, folder, tmp_path):
    ClapText.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_text_branch_of_a_whole_clap_of_transformers_is_read(tokenizer, tmp_path):
    text = {"vocab_size": 768, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text |= {"intermediate_size": 96, "max_position_embeddings": 40}
    audio = {"hidden_size": 64, "depths": [1, 1], "num_attention_heads": [2, 4], "patch_embeds_hidden_size": 32}
    torch.manual_seed(0)
    whole = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=48)).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    model = ClapText.from_pretrained(tmp_path)
    assert model.config.joint_width == 48 and model.config.max_tokens == 38
    ids, mask = model.tokens(TEXTS)
    with torch.inference_mode():
        theirs = whole.get_text_features(input_ids=ids, attention_mask=mask)
    vectors = theirs if isinstance(theirs, torch.Tensor) else theirs.pooler_output
    assert torch.allclose(F.normalize(vectors, dim=-1), model.embed(TEXTS), atol=1e-6)


def test_the_released_size_is_robertas(tokenizer):
    with torch.device("meta"):
        model = ClapText(TEXT_SIZES["base"], tokenizer)
    # 124,645,632 of roberta-base with its pooler, and the projection
    assert sum(p.numel() for p in model.parameters()) == 124_645_632 + 768 * 512 + 512 + 512 * 512 + 512


def test_weights_with_nan_are_refused_by_name(model, tmp_path):
    broken = copy.deepcopy(model)
    broken.roberta.text_projection.linear1.bias.data[0] = torch.nan
    broken.save_pretrained(tmp_path)
    for read in (ClapText.from_pretrained, ClapText.check_pretrained):
        with pytest.raises(ModelFilesError, match=r"text_projection\.linear1\.bias holds NaN"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}", None])
def test_a_file_that_is_missing_or_broken_is_refused_by_name(folder, name, damage):
    data = (folder / name).read_bytes()
    if damage:
        (folder / name).write_bytes(damage(data))
    else:
        (folder / name).unlink()
    with pytest.raises(ModelFilesError, match=name.replace(".", r"\.")):
        ClapText.from_pretrained(folder)


def test_a_model_of_another_kind_or_size_is_refused(folder, tmp_path):
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    values = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(values | {"model_type": "bart"}))
    with pytest.raises(ModelFilesError, match=r"config\.json: model_type is 'bart', expected 'clap'"):
        ClapText.from_pretrained(other)
    (other / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 3}))
    with pytest.raises(ModelFilesError, match="tensors are missing"):
        ClapText.from_pretrained(other)
    for change, said in (
        ({"hidden_size": 0}, "text: width is 0"),
        ({"vocab_size": "x"}, "config.vocab is 'x': expected a whole number"),
        ({"num_attention_heads": -1}, "text: num_heads is -1"),
    ):
        (other / "config.json").write_text(json.dumps(values | change))
        with pytest.raises(ModelFilesError, match=said):
            ClapText.from_pretrained(other)
    (other / "config.json").write_text(json.dumps(values | {"vocab_size": 500}))
    with pytest.raises(ModelFilesError, match=r"the tokenizer has 768 tokens, but config\.vocab is 500"):
        ClapText.from_pretrained(other)
    with pytest.raises(ValueError, match="max_tokens is 80: write 3 to 64, max_positions - 2"):
        ClapTextSize(max_positions=66, max_tokens=80)
