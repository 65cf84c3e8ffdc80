"""AutoCap's files are config.json, model.safetensors and tokenizer.json."""

from pathlib import Path

import torch
from torch import nn

from autorecap.models import files
from autorecap.models.autocap.config import AutoCapConfig
from autorecap.models.autocap.tokens import CaptionTokenizer
from autorecap.models.files import CONFIG, WEIGHTS, ModelFilesError

TOKENIZER = "tokenizer.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER)
FORMAT = "autocap/1"


def find(path: str | Path) -> Path:
    """Returns the folder of a model with all its files, downloaded where `path` is a hub id. Raises ModelFilesError."""
    return files.find(path, FILES)


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
