"""GenAu's files lie in one folder:

    config.json          the settings, `GenAuConfig`
    model.safetensors    backbone.*, vae.*, vocoder.*, and scale_factor, a number
    t5/                  FLAN-T5's encoder: config.json, model.safetensors, tokenizer.json, as transformers has them
    clap/                CLAP's text branch, likewise

The text encoders are other people's: a folder of theirs may be put in place as it is, and models may share one.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from autorecap.models import clap, files
from autorecap.models.files import CONFIG, WEIGHTS, ModelFilesError
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.text import t5
from autorecap.models.genau.text.conditioning import TextEncoders
from autorecap.models.genau.vae.model import GENERATOR_FORMAT

FILES = (CONFIG, WEIGHTS)
T5_FOLDER, CLAP_FOLDER = "t5", "clap"
FORMAT = GENERATOR_FORMAT
_EXACT = ("backbone.context.time.", "scale_factor")
"""These tensors keep their precision when stored: at timestep 999 a frequency in bf16 is off by whole periods."""


class Parts(nn.Module):
    """The parts are what model.safetensors holds, under its names there: the modules themselves, no copies."""

    def __init__(self, backbone: nn.Module, vae: nn.Module, vocoder: nn.Module, scale_factor: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.vae = vae
        self.vocoder = vocoder
        self.register_buffer("scale_factor", scale_factor)


def read_config(path: Path) -> GenAuConfig:
    """Reads the settings. Raises ModelFilesError where they are not GenAu's."""
    values = files.read_config(path, FORMAT)
    try:
        return GenAuConfig.from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFilesError(f"{path} is not a config of GenAu ({error})") from error


def find(path: str | Path) -> tuple[Path, GenAuConfig]:
    """Returns the folder of a model, downloaded where `path` is a hub id, and its config. Raises ModelFilesError.

    The text encoders are not looked for.
    """
    folder = files.find(path, FILES)
    return folder, read_config(folder / CONFIG)


def load_text(
    path: str | Path, config: GenAuConfig, t5_path: str | Path | None, clap_path: str | Path | None
) -> TextEncoders:
    """Loads the text encoders from the model's folder, or from where the last two say. Raises ModelFilesError."""
    own = [
        f"{name}/{file}"
        for name, other, wanted, needed in (
            (T5_FOLDER, t5_path, config.text.has_t5, t5.FILES),
            (CLAP_FOLDER, clap_path, config.text.clap, clap.FILES),
        )
        if wanted and other is None
        for file in needed
    ]
    try:
        folder = files.find(path, own) if own else Path(path)
    except ModelFilesError as error:
        raise ModelFilesError(
            f"{error}. The text encoders are folders of transformers' files within the model's: {T5_FOLDER}/ (for "
            f"released sizes google/flan-t5-large) and {CLAP_FOLDER}/ (the text branch of LAION's CLAP)"
        ) from error
    text = TextEncoders.from_pretrained(
        config.text, t5=t5_path or folder / T5_FOLDER, clap=clap_path or folder / CLAP_FOLDER
    )
    try:
        text.check_widths(config.backbone.context)
    except ValueError as error:
        raise ModelFilesError(f"{path}: {error}") from error
    return text


def save(
    path: str | Path, config: GenAuConfig, parts: Parts, text: TextEncoders | None, dtype: torch.dtype | None
) -> None:
    """Writes the folder; the same model gives the same bytes. Without `text` it is to get its t5/ and clap/ elsewhere.

    `dtype`: of the generator's weights, if another; those that must be exact keep their own.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(files.stored_tensors(parts))
    if dtype is not None:
        tensors = {name: t if name.startswith(_EXACT) else t.to(dtype) for name, t in tensors.items()}
    files.write_tensors(folder / WEIGHTS, tensors)
    files.write_config(folder / CONFIG, FORMAT, config.to_dict())
    if text is not None and text.t5 is not None:
        text.t5.save_pretrained(folder / T5_FOLDER)
    if text is not None and text.clap is not None:
        text.clap.save_pretrained(folder / CLAP_FOLDER)
