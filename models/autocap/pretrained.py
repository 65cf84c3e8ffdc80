"""AutoCap's files are config.json, model.safetensors and tokenizer.json."""

from pathlib import Path

import torch
from torch import nn

from autorecap.models import DEMO, files
from autorecap.models.autocap.config import AutoCapConfig
from autorecap.models.autocap.tokens import CaptionTokenizer
from autorecap.models.clap import FILES as TEXT_FILES
from autorecap.models.clap import TEXT_FOLDER
from autorecap.models.files import CONFIG, TOKENIZER, WEIGHTS, ModelFilesError

FILES = (CONFIG, WEIGHTS, TOKENIZER)
FORMAT = "autocap/1"
DEMO_FOLDER = Path(__file__).parent / "demo_weights"


def find(path: str | Path) -> Path:
    """Returns the folder of a model with all its files, downloaded where `path` is a hub id. Raises ModelFilesError.

    "demo" is the bundled model, and "./demo" a folder.
    """
    return files.find(_place(path), FILES)


def find_clap_text(path: str | Path) -> Path:
    """Returns the folder of the text branch beside a model, downloaded where `path` is a hub id.

    Raises ModelFilesError where there is none.
    """
    return files.find(_place(path), [f"{TEXT_FOLDER}/{name}" for name in TEXT_FILES]) / TEXT_FOLDER


def _place(path: str | Path) -> str | Path:
    return DEMO_FOLDER if path == DEMO else path


def save(
    path: str | Path, config: AutoCapConfig, tokenizer: CaptionTokenizer, model: nn.Module, dtype: torch.dtype | None
) -> None:
    """Writes the three files into the folder `path`; the same model gives the same bytes."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_weights(folder / WEIGHTS, model, dtype)
    tokenizer.save(folder / TOKENIZER)
    files.write_config(folder / CONFIG, FORMAT, config.to_dict())


def read_config(path: Path) -> AutoCapConfig:
    """Reads the settings. Raises ModelFilesError where they are not AutoCap's."""
    values = files.read_config(path, FORMAT)
    try:
        return AutoCapConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise ModelFilesError(f"{path} is not a config of AutoCap ({error})") from error
