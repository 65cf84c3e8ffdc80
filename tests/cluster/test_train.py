"""Arguments and errors of a training on their way to Ray's workers and back. (tests/integration starts a cluster.)"""

import pickle
from pathlib import Path

import pytest

from autorecap.cluster.train import _Ended, absolute_arguments


def test_a_model_that_is_named_by_a_word_is_no_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout holds a folder demo/, and `--init demo` means the bundled model there, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "s", "mine"):
        (tmp_path / name).mkdir()
    found = [absolute_arguments([], {"init": init})[1]["init"] for init in ("demo", "s", "mine", "./demo", "")]
    assert found == ["demo", "s", f"{tmp_path}/mine", f"{tmp_path}/demo", ""]


def test_the_error_that_ended_a_worker_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(_Ended("no clip could be read", 2)))
    assert (str(error), error.exit_code) == ("no clip could be read", 2)
