"""The settings of the captions stage: what is known of a model before it is loaded."""

import json
import shutil
from pathlib import Path

import pytest

from models.autocap import AutoCap
from stages.captions import CaptionsConfig, model_files, window_ms


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of the bundled model."""
    return Path(shutil.copytree(AutoCap.DEMO, tmp_path / "model"))


def test_the_window_is_known_before_the_model_is_loaded(model):
    (model / "model.safetensors").write_bytes(b"no weights")
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values | {"window_s": 7.5}))
    assert window_ms(CaptionsConfig(model=str(model))) == 7_500
    assert window_ms(CaptionsConfig()) == 10_000


def test_the_files_of_a_model_are_listed(model):
    names = [path.name for path in model_files(CaptionsConfig(model=str(model)))]
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_of_the_hub_is_found_before_the_work_or_refused(model, monkeypatch):
    """The hub's own client, with a cache that holds one model and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = model.parent / "cache" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(model, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(model.parent / "cache"))
    assert model_files(CaptionsConfig(model="owner/name")) == [
        snapshot / path.name for path in model_files(CaptionsConfig())
    ]
    with pytest.raises(ValueError, match=r"captions\.model: nobody/nothing: no such folder, and the hub"):
        model_files(CaptionsConfig(model="nobody/nothing"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}", None])
def test_a_model_file_that_is_missing_or_broken_is_refused_by_name(model, name, damage):
    data = (model / name).read_bytes()
    if damage:
        (model / name).write_bytes(damage(data))
    else:
        (model / name).unlink()
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        model_files(CaptionsConfig(model=str(model)))


def test_a_config_that_is_no_autocap_config_has_no_window(model):
    (model / "config.json").write_text('{"format": "autocap/1", "windows": 3}')
    with pytest.raises(ValueError, match=r"config\.json.*windows"):
        window_ms(CaptionsConfig(model=str(model)))
