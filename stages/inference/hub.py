"""Finds the models of transformers that a user names: in a folder, or in a repository of the Hugging Face hub.

Weights are read from safetensors alone and no code out of a repository is run, so a name can do no harm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autorecap.base.settings import SettingError

_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files of a model: config, tokenizer, weights."""


def find(name: str, setting: str) -> Path:
    """Return the folder of a model, downloaded where `name` is a hub id (owner/name).

    Raises SettingError where there is no such model or its files are missing or damaged.
    """
    from autorecap.models import files

    folder = Path(name)
    with blamed_on(setting):
        if not folder.is_dir():
            folder = files.download(name, _PATTERNS, "a folder of a model of transformers")
        weights = sorted(folder.glob("*.safetensors"))
        if not (folder / files.CONFIG).is_file() or not weights:
            raise files.ModelFilesError(
                f"{folder} holds no model of transformers: a {files.CONFIG} and weights as .safetensors are wanted"
            )
        for path in weights:
            files.check_weights(path)
    return folder


@contextmanager
def blamed_on(setting: str) -> Iterator[None]:
    """Turn an error of a model's files into a SettingError of the setting that names the model."""
    from autorecap.models.files import ModelFilesError

    try:
        yield
    except (ModelFilesError, OSError) as error:
        raise SettingError(setting, str(error)) from error


def model_files(folder: Path) -> list[Path]:
    """Return the files that decide about a model's answers, for the fingerprint of a dataset."""
    return sorted(path for pattern in _PATTERNS for path in folder.glob(pattern))
