"""GenAu's files: what is saved is loaded, and what is damaged is named."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from autorecap.models.files import CONFIG, WEIGHTS, ModelFilesError, read_weights
from autorecap.models.genau.model import GenAu
from tests.support.tiny_genau import FIT, TINY, built, close


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
    other = dataclasses.replace(TINY, backbone=dataclasses.replace(FIT, patch_width=64))
    built(other).save_pretrained(folder)
    values = json.loads((folder / CONFIG).read_text())
    values["backbone"]["patch_width"] = 32
    (folder / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelFilesError, match="of another shape"):
        GenAu.from_pretrained(folder)
    with pytest.raises(ModelFilesError, match="no such folder"):
        GenAu.from_pretrained(folder / "nowhere")
