"""AutoCap's files: config.json, model.safetensors, tokenizer.json. Nothing in them is ever executed."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from models.autocap.config import AutoCapConfig
from models.autocap.tokens import CaptionTokenizer

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER)
FORMAT = "autocap/1"
DERIVED = "relative_position_index"  # buffers that the constructor computes: not stored


class ModelFilesError(Exception):
    """A model's files are missing or unusable. The message names the file and says what to do."""


def load(path: str | Path) -> tuple[AutoCapConfig, CaptionTokenizer, dict[str, Tensor]]:
    """What a model is made of, from a folder or from a Hugging Face hub repository ("owner/name").

    Raises ModelFilesError.
    """
    folder = find(path)
    return read_config(folder / CONFIG), read_tokenizer(folder / TOKENIZER), _read_weights(folder / WEIGHTS)


def find(path: str | Path) -> Path:
    """The folder of a model with all its files, downloaded where `path` is a hub id. Raises ModelFilesError."""
    folder = Path(path)
    if not folder.is_dir():
        folder = _download(str(path))
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelFilesError(f"{folder / name} is missing: a model folder holds {', '.join(FILES)}")
    return folder


def check_weights(path: Path) -> None:
    """Read the header of a weights file, which says how long it must be. Raises ModelFilesError."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelFilesError(f"{path} is damaged or cut short ({error}): fetch or save it again") from error


def fill(model: nn.Module, weights: dict[str, Tensor], path: str | Path) -> None:
    """Put stored weights into a model, in the model's own precision. Raises ModelFilesError where they do not fit."""
    stored = {name for name, _ in _stored(model)}
    missing, unknown = sorted(stored - set(weights)), sorted(set(weights) - stored)
    own = model.state_dict()
    shapes = [name for name in stored & set(weights) if weights[name].shape != own[name].shape]
    for names, what in ((missing, "missing"), (unknown, "unknown"), (sorted(shapes), "of another shape")):
        if names:
            raise ModelFilesError(
                f"{Path(path) / WEIGHTS}: {len(names)} tensors are {what}, the first is {names[0]}. "
                f"The file does not belong to the {CONFIG} beside it: fetch or save the folder again as a whole"
            )
    model.load_state_dict(weights, strict=False)


def save(
    path: str | Path, config: AutoCapConfig, tokenizer: CaptionTokenizer, model: nn.Module, dtype: torch.dtype | None
) -> None:
    """Write the three files into the folder `path`; the same model gives the same bytes."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, tensor in _stored(model):
        value = tensor.detach().to("cpu", copy=True)
        weights[name] = (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
    # By bytes and not by `save_file`, which makes the file unreadable for everyone else.
    (folder / WEIGHTS).write_bytes(to_bytes(weights, metadata={"format": "pt"}))
    tokenizer.save(folder / TOKENIZER)
    text = json.dumps({"format": FORMAT, **config.to_dict()}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _stored(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The tensors that a file holds: each shared tensor once (BART's word table has three names), nothing derived."""
    seen: set[int] = set()
    out = []
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen and not name.endswith(DERIVED):
            out.append((name, tensor))
        seen.add(tensor.data_ptr())
    return out


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelFilesError(f"{name}: no such folder. Give a folder with {', '.join(FILES)}, or a hub id owner/name")
    from huggingface_hub import snapshot_download  # the network is needed for hub ids alone

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # many kinds: no network, no such repository, no right to read it
        raise ModelFilesError(
            f"{name}: no such folder, and the hub gave no model of that name ({type(error).__name__}: {error}). "
            "Check the name and the network, or download the model and give its folder"
        ) from error


def read_config(path: Path) -> AutoCapConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format", None)
        if found != FORMAT:
            raise ValueError(f"format is {found!r}, expected {FORMAT!r}")
        return AutoCapConfig.from_dict(values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFilesError(
            f"{path} is no AutoCap config ({error}). Checkpoints of the official code are not read"
        ) from error


def read_tokenizer(path: Path) -> CaptionTokenizer:
    try:
        return CaptionTokenizer.load(path)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelFilesError(f"{path} is no byte-level tokenizer ({error}): fetch the folder again") from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFilesError(f"{path} is damaged or cut short ({error}): fetch it again") from error
