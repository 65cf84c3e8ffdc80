"""AutoCap's files: they keep every bit, and what is refused is named.

Also proves models/files.py, which reads and writes the files of every model.
"""

import copy
import json
import math
import os
import re
from pathlib import Path

import pytest
import torch

from autorecap.demo import sentences
from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer, ModelFilesError, pretrained
from autorecap.models.autocap.pretrained import FILES
from autorecap.models.files import CONFIG, TOKENIZER, WEIGHTS


@pytest.fixture(scope="module")
def untrained() -> AutoCap:
    torch.manual_seed(0)
    return AutoCap(SIZES["demo"], CaptionTokenizer.train(sentences.corpus(), SIZES["demo"].bart.vocab)).eval()


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_saving_and_loading_keeps_every_bit(untrained: AutoCap, tmp_path: Path, dtype: torch.dtype | None) -> None:
    untrained.save_pretrained(tmp_path / "a", dtype=dtype)
    loaded = AutoCap.from_pretrained(tmp_path / "a")
    assert not loaded.training
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(FILES)
    for (name, ours), (_, theirs) in zip(untrained.state_dict().items(), loaded.state_dict().items(), strict=True):
        stored = ours.to(dtype).to(ours.dtype) if dtype and ours.is_floating_point() else ours
        assert torch.equal(stored, theirs), name
    loaded.save_pretrained(tmp_path / "b", dtype=dtype)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_are_readable_by_all_who_may_read_the_folder(untrained: AutoCap, tmp_path: Path) -> None:
    untrained.save_pretrained(tmp_path)
    mask = os.umask(0)
    os.umask(mask)
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(untrained: AutoCap, tmp_path: Path, name: str) -> None:
    untrained.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelFilesError, match=f"{name} is missing"):
        AutoCap.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (WEIGHTS, None, "damaged or cut short"),
        (WEIGHTS, b"", "damaged or cut short"),
        (CONFIG, b"{", "not a config of a model"),
        (CONFIG, b"[]", "not a config of a model"),
        (CONFIG, b'{"format": "autocap/9"}', "autocap/9"),
        (CONFIG, b'{"format": "autocap/1", "colour": 1}', "no setting is called colour"),
        (TOKENIZER, b"{}", "not a byte-level tokenizer"),
        (TOKENIZER, b"\xff\xfe", "not a byte-level tokenizer"),
    ],
)
def test_a_damaged_file_is_named(
    untrained: AutoCap, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    untrained.save_pretrained(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(ModelFilesError, match=message) as caught:
        AutoCap.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)


def test_weights_of_another_size_are_refused(untrained: AutoCap, tmp_path: Path) -> None:
    untrained.save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    values["clap_width"] = 32
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelFilesError, match="of another shape"):
        AutoCap.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("bart", "num_heads", 0, "bart: num_heads is 0"),
        ("bart", "num_heads", 3, "bart: a width of 128 does not divide into 3 heads"),
        ("bart", "vocab", -1, "bart: vocab is -1"),
        ("bart", "dropout", 1.5, "bart: dropout is 1.5"),
        ("qformer", "num_heads", 7, "qformer: a width of 128 does not divide into 7 heads"),
        ("qformer", "num_queries", 0, "qformer: num_queries is 0"),
        ("htsat", "patch", 0, "swin: patch is 0"),
        ("htsat", "heads", [5, 8], "swin: a width of 64 does not divide into 5 heads"),
        ("htsat", "depths", [], "swin: 0 depths but 2 heads"),
        ("clap", "depths", [0, 2], "swin: depths are"),
        ("", "token_repeat", 0, "autocap: token_repeat is 0"),
        ("", "window_s", -1, "autocap: window_s is -1"),
        ("", "window_s", 20, "htsat makes at most 1024 frames, not 2001"),
        ("qformer", "eps", -1, "qformer: eps is -1"),
        ("", "clap_width", "64", "config.clap_width is '64': expected a whole number"),
    ],
)
def test_a_config_that_means_nothing_is_refused_with_the_setting_s_name(
    untrained: AutoCap, tmp_path: Path, part: str, name: str, value: object, message: str
) -> None:
    untrained.save_pretrained(tmp_path)
    values = json.loads((tmp_path / CONFIG).read_text())
    (values[part] if part else values)[name] = value
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ModelFilesError, match=re.escape(message)):
        AutoCap.from_pretrained(tmp_path)


def test_weights_with_nan_are_refused_with_the_tensor_s_name(untrained: AutoCap, tmp_path: Path) -> None:
    broken = copy.deepcopy(untrained)
    with torch.no_grad():
        broken.clap_in.weight[0, 0] = math.nan
    broken.save_pretrained(tmp_path)
    with pytest.raises(ModelFilesError, match=r"the tensor clap_in\.weight holds NaN or infinity"):
        AutoCap.from_pretrained(tmp_path)


def test_the_bundled_model_has_a_name_also_where_a_folder_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert pretrained.find("demo") == AutoCap.DEMO and pretrained.find_clap_text("demo") == AutoCap.DEMO / "clap_text"
    with pytest.raises(ModelFilesError, match=r"demo/config\.json is missing"):
        AutoCap.from_pretrained("./demo")


def test_a_folder_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(ModelFilesError, match="no such folder"):
        AutoCap.from_pretrained("/nowhere/at/all")
