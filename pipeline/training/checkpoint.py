"""Checkpoints: folders that exist as a whole or not at all.

RUN/checkpoints/step-00001000/
    module.safetensors      every tensor of the module
    optimizer.safetensors   "<number of the parameter>.<name>"
    state.json              position, and what the run was told: another run does not go on from it

Written beside its final name, synced, then renamed. No pickle is written or read.
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from models import files
from pipeline.errors import REFUSED, ForeseenError

FORMAT = "autorecap-training/1"
MODULE, OPTIMIZER, STATE = "module.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d+)")


class CheckpointError(ForeseenError):
    """A checkpoint cannot be used. The message names it and says what to do."""


class OtherRunError(ForeseenError):
    """The checkpoint belongs to a run with other data or settings."""

    exit_code = REFUSED


def save(folder: Path, state: Mapping[str, Any], told: Mapping[str, Any], keep: int) -> Path:
    """Write the state of a trainer (`Trainer.state_dict`) as the newest of at most `keep` checkpoints in `folder`.

    `told`: plain values that fix the run; `load` refuses the checkpoint to a run that was told something else.
    """
    final = folder / f"step-{state['step']:08d}"
    if final.exists():
        return final
    sweep(folder)
    draft = folder / f".{final.name}"
    draft.mkdir(parents=True)
    plain = {name: value for name, value in state.items() if name not in ("module", "optimizer")}
    _write(draft / MODULE, to_bytes(_whole(state["module"])))
    _write(draft / OPTIMIZER, to_bytes(_flat(state["optimizer"])))
    _write(draft / STATE, json.dumps({"format": FORMAT, **plain, "told": told}, indent=1).encode())
    _sync(draft)
    draft.rename(final)
    _sync(folder)
    for old in all_in(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def all_in(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = {int(name[1]): path for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))}
    return [found[step] for step in sorted(found)]


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished."""
    for draft in folder.glob(".step-*"):
        shutil.rmtree(draft)


def read_told(path: Path) -> dict[str, Any]:
    """What the run of this checkpoint was told. Raises CheckpointError."""
    return _state(path)["told"]


def load(path: Path, told: Mapping[str, Any], optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """The state that `save` was given. `optimizer`: its state_dict as it is at the start, for the groups in it.

    Raises CheckpointError where files are damaged, OtherRunError, with the differences, where `told` is another.
    """
    state = _state(path)
    before, now = dict(_leaves(state.pop("told"))), dict(_leaves(json.loads(json.dumps(told))))
    if different := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        lines = [f"  {name}: {before.get(name, 'not set')} -> {now.get(name, 'not set')}" for name in different]
        raise OtherRunError(
            f"{path} belongs to a run that was told otherwise:\n" + "\n".join(lines) + "\n"
            "Give what it was given, or start another run with --out elsewhere and --init from this one's model"
        )
    try:
        tensors = {name: files.read_weights(path / name) for name in (MODULE, OPTIMIZER)}
    except files.ModelFilesError as error:
        raise CheckpointError(f"{error}. Or remove {path}, and the run goes on from the one before") from error
    numbered: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors[OPTIMIZER].items():
        number, _, key = name.partition(".")
        numbered.setdefault(int(number), {})[key] = tensor
    return {
        **state,
        "module": tensors[MODULE],
        "optimizer": {"state": numbered, "param_groups": optimizer["param_groups"]},
    }


def results(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Name and value of every setting that changes what comes out: what a run is told, for `save` and `load`."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found |= results(value, f"{prefix}{field.name}.")
        elif field.metadata.get("results"):
            found[prefix + field.name] = list(value) if isinstance(value, tuple) else value
    return found


def _state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        if state.pop("format") != FORMAT:
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path / STATE} is no state of a training run ({error}). Remove {path}, and the run goes on from the "
            "checkpoint before it"
        ) from error
    return state


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies: safetensors refuses tensors that share memory, as BART's word table and its output layer do."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _flat(optimizer: Mapping[str, Any]) -> dict[str, Tensor]:
    return _whole({
        f"{number}.{key}": torch.as_tensor(value)
        for number, entry in optimizer["state"].items()
        for key, value in entry.items()
    })  # fmt: skip


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{name}.{key}" if name else key)]
    return [(name, value)]


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
