"""What a training hands to Ray's workers, which have working directories of their own."""

import pickle
from pathlib import Path

import pytest

from autorecap.cluster.train import _Ended, absolute_arguments


def test_a_size_stays_a_word_though_a_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert absolute_arguments([], {"init": "demo"})[1]["init"] == "demo"


def test_a_model_beside_us_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/config.json").write_text("{}")
    assert absolute_arguments([], {"init": "mine"})[1]["init"] == str(tmp_path / "mine")


def test_what_ended_a_worker_comes_through_a_pickle() -> None:
    ended = pickle.loads(pickle.dumps(_Ended("no such model", 2)))
    assert (str(ended), ended.exit_code) == ("no such model", 2)
