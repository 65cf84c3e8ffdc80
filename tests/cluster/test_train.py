"""Arguments and errors of a training on their way to Ray's workers and back. (tests/integration starts a cluster.)"""

import pickle
from pathlib import Path
from typing import Any

import pytest

from autorecap.cluster.train import _Ended, absolute_arguments
from autorecap.training.autocap.recipe import AutoCapTraining
from autorecap.training.genau.recipe import GenAuTraining
from autorecap.training.vae.recipe import VAETraining
from autorecap.training.vocoder.recipe import VocoderTraining


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (AutoCapTraining, ["demo"]),
        (VAETraining, ["demo", "s"]),
        (VocoderTraining, ["demo", "s"]),
        (GenAuTraining, ["demo", "s"]),
    ],
)
def test_a_word_that_a_training_takes_for_a_model_is_no_folder_of_that_name(
    kind: Any, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout holds a folder demo/, and `--init demo` means the bundled model there, too."""
    monkeypatch.chdir(tmp_path)
    given = ["demo", "s", "mine", "./demo", ""]
    for name in given[:3]:
        (tmp_path / name).mkdir()
    found = [absolute_arguments([], {"init": init}, kind.init_names)[1]["init"] for init in given]
    folders = [name if name in names else f"{tmp_path}/{name}" for name in given[:3]]
    assert found == [*folders, f"{tmp_path}/demo", ""]


def test_the_error_that_ended_a_worker_survives_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(_Ended("no clip could be read", 2)))
    assert (str(error), error.exit_code) == ("no clip could be read", 2)
