"""A model's folder holds a config in JSON, weights in safetensors, and what else it needs. Nothing in it is run.

Every model of the project saves and loads by these functions, so each says the same of a file that is missing,
damaged, or another model's.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


class ModelFilesError(Exception):
    """A model's files are missing or unusable. The message names the file and says what to do."""


def find(path: str | Path, files: Sequence[str]) -> Path:
    """Returns the folder that holds `files`, downloaded where `path` is a hub id. Raises ModelFilesError."""
    folder = Path(path)
    if not folder.is_dir():
        folder = download(str(path), files, f"a folder with {', '.join(files)}")
    for name in files:
        if not (folder / name).is_file():
            raise ModelFilesError(f"{folder / name} is missing: a model folder holds {', '.join(files)}")
    return folder


def download(name: str, patterns: Sequence[str], wanted: str) -> Path:
    """Downloads the files of a hub id ("owner/name") that match, and returns their folder. Raises ModelFilesError.

    `wanted`: what may be given in place of a hub id, for the message.
    """
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelFilesError(f"{name}: no such folder. Give {wanted}, or a hub id owner/name")
    from huggingface_hub import snapshot_download  # the network is needed for hub ids alone

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # many kinds: no network, no such repository, no right to read it
        raise ModelFilesError(
            f"{name}: no such folder, and the hub gave no model of that name ({type(error).__name__}: {error}). "
            "Check the name and the network, or download the model and give its folder"
        ) from error


# --- config


def write_config(path: Path, format_name: str, values: Mapping[str, Any]) -> None:
    """Writes the settings, and which format they are in."""
    text = json.dumps({"format": format_name, **values}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def read_config(path: Path, format_name: str) -> dict[str, Any]:
    """Reads the settings without the format. Raises ModelFilesError where the file is not of this format."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = values.pop("format", None)
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelFilesError(f"{path} is not a config of a model ({error}): fetch or save the folder again") from error
    if found != format_name:
        raise ModelFilesError(
            f"{path}: format is {found!r}, expected {format_name!r}. `autorecap convert` reads official checkpoints"
        )
    return values


def format_of(path: Path) -> str | None:
    """Returns the format that a config names; None where it names none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("format")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


# --- weights


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads every tensor of a safetensors file. Raises ModelFilesError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelFilesError(f"{path} is damaged or cut short ({error}): fetch it again") from error


def check_weights(
    path: Path, model: nn.Module | None = None, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Reads the header of a weights file, which says how long it must be. Raises ModelFilesError.

    `model`, which may be on `meta`: the weights must be its own and finite; they are read one tensor at a time.
    `wanted`: tells which names are meant for it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if model is not None:
                names = [name for name in file.offset_keys() if wanted(name)]
                _check_fit(model, {name: tuple(file.get_slice(name).get_shape()) for name in names}, path)
                for name in names:
                    _check_finite(name, file.get_tensor(name), path)
    except (SafetensorError, OSError) as error:
        raise ModelFilesError(f"{path} is damaged or cut short ({error}): fetch or save it again") from error


def write_weights(path: Path, model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Writes the model's tensors, in `dtype` where one is given; the same model gives the same bytes."""
    write_tensors(path, dict(stored_tensors(model)), dtype)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Writes tensors by name, floating ones in `dtype` where one is given. What lies on the CPU is not copied first.

    Raises OSError where the file cannot be written.
    """
    stored = {}
    for name, tensor in tensors.items():
        kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        value = tensor.detach().to("cpu", kind).contiguous()
        is_part = value.untyped_storage().nbytes() > value.nbytes  # of something larger, which others may share
        stored[name] = value.clone() if is_part else value
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(stored, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, among others
        raise OSError(None, f"cannot be written ({error})", str(path)) from error
    path.chmod(mode)  # save_file makes the file unreadable for everyone else


def fill(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Puts stored weights into a model, in the model's own precision. Raises ModelFilesError where they do not fit.

    `source`: what the message names as the origin of the weights.
    """
    _check_fit(model, {name: tuple(tensor.shape) for name, tensor in weights.items()}, source)
    model.load_state_dict(dict(weights), strict=False)


def _check_fit(model: nn.Module, found: Mapping[str, tuple[int, ...]], source: object) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in stored_tensors(model)}
    missing, unknown = sorted(set(own) - set(found)), sorted(set(found) - set(own))
    shapes = sorted(name for name in set(own) & set(found) if found[name] != own[name])
    for names, what in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape")):
        if names:
            raise ModelFilesError(
                f"{source}: {len(names)} tensors are {what}, the first is {names[0]}. "
                f"The weights do not belong to the {CONFIG} beside them: fetch or save the folder again as a whole"
            )


def check_finite(module: nn.Module, source: object) -> None:
    """Raises ModelFilesError that names the first tensor with NaN or infinity in it."""
    for name, tensor in stored_tensors(module):
        _check_finite(name, tensor, source)


def _check_finite(name: str, tensor: Tensor, source: object) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ModelFilesError(
            f"{source}: the tensor {name} holds NaN or infinity: the training that wrote it has failed, "
            "or the file is damaged. Take an earlier checkpoint, or fetch it again"
        )


def digest(model: nn.Module, config: Mapping[str, Any] | None = None) -> str:
    """Returns the sha256 of a model's settings and of every number in it, which tells what was made by which model.

    `config`: the settings; None: those of `model.config`, where it has one.
    """
    if config is None:
        own: Any = getattr(model, "config", None)
        config = own.to_dict() if own is not None else {}
    found = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(stored_tensors(model)):
        values = tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8)
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(values.numpy().data)
    return found.hexdigest()


def stored_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Lists what a file holds of a model: each shared tensor once, nothing derived.

    BART's word table, for example, has three names.
    """
    seen: set[int] = set()
    out = []
    for name, tensor in model.state_dict(keep_vars=True).items():  # else each would be an object of its own
        if id(tensor) not in seen and not name.endswith(_DERIVED):
            out.append((name, tensor.detach()))
        seen.add(id(tensor))
    return out


_DERIVED = "relative_position_index"  # a buffer that transformers' constructor computes
