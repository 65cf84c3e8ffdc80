"""Checkpoints: folders that count as soon as the last file is in them, on a local disk or in S3.

RUN/checkpoints/step-00001000/
    rank-*.safetensors, tensors.json    every tensor of the state, see `tensor_files`
    state.json                          position, and what the run was told: another run does not go on from it

`state.json` is written last, when all else is there; a folder without it is no checkpoint. Writing goes on beside the
training, which waits for copies in memory alone. Any number of processes can read what any other number wrote.
"""

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.storage import WriteResult

from autorecap.base.errors import REFUSED, ForeseenError
from autorecap.base.files import explanation
from autorecap.training.checkpoint.tensor_files import DamagedError, Folder, Reader, Writer, group_of
from autorecap.training.loop.processes import Ranks

if TYPE_CHECKING:
    from autorecap.training.loop.trainer import Trainer

FORMAT = "autorecap-training/2"
STATE = "state.json"
_NAME = re.compile(r"step-(\d+)")
warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is no reason to warn


class CheckpointError(ForeseenError):
    """A checkpoint cannot be used. The message names it and says what to do."""


class OtherRunError(ForeseenError):
    """The checkpoint belongs to a run with other data or settings."""

    exit_code = REFUSED


@dataclass(frozen=True)
class Checkpoint:
    """One that is whole."""

    url: str
    step: int

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}"

    def __str__(self) -> str:
        return self.url


def all_in(folder: str | Path) -> list[Checkpoint]:
    """The checkpoints of a folder, oldest first."""
    found = []
    try:
        place = Folder(str(folder))
        paths = place.fs.glob(place.path(f"step-*/{STATE}"))
    except Exception as error:  # every fsspec back-end has errors of its own
        raise CheckpointError(
            f"{folder} cannot be searched for checkpoints: {explanation(str(folder), error)}"
        ) from error
    for path in paths:
        name = path.rsplit("/", 2)[1]
        if known := _NAME.fullmatch(name):
            found.append(Checkpoint(f"{str(folder).rstrip('/')}/{name}", int(known[1])))
    return sorted(found, key=lambda each: each.step)


class Saver:
    """Writes the checkpoints of a run. All ranks call it at the same steps."""

    def __init__(self, folder: str | Path, ranks: Ranks, keep: int) -> None:
        self.folder, self.ranks, self.keep = str(folder).rstrip("/"), ranks, keep
        self._group = group_of(ranks)
        self._writing: Any = None

    def save(self, trainer: "Trainer", told: Mapping[str, Any], score: float | None = None) -> Checkpoint:
        """Begin to write the state, and return. The last `keep` are kept, and the one with the lowest score.

        `told`: plain values that fix the run; `load` refuses the checkpoint to a run that was told something else.
        Raises what went wrong in writing the one before.
        """
        self.wait()
        state = {"format": FORMAT, **trainer.numbers(), "score": score, "told": told}
        found = Checkpoint(f"{self.folder}/step-{trainer.step:08d}", trainer.step)
        there = False
        if self.ranks.first:
            there = any(each.step == found.step for each in all_in(self.folder))
            if not there:
                sweep(self.folder)
        if self.ranks.agree(there):
            return found
        writer = _Complete(Folder(found.url), state, self.folder, self.keep)
        self._writing = dcp.async_save(
            dict(trainer.tensors()),
            storage_writer=writer,
            process_group=self._group,
            no_dist=self.ranks.count == 1,
        )
        return found

    def wait(self) -> None:
        """Until what was begun is there."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


class _Complete(Writer):
    """The last file comes last; then old checkpoints go."""

    def __init__(self, folder: Folder, state: Mapping[str, Any], parent: str, keep: int) -> None:
        super().__init__(folder)
        self.state, self.parent, self.keep = state, parent, keep

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        self.folder.put(STATE, json.dumps(self.state, indent=1).encode())
        found = all_in(self.parent)
        kept = {each.step for each in found[-self.keep :]}
        if len(kept) < len(found) and (best := best_of(found)):
            kept.add(best.step)
        for old in (each for each in found if each.step not in kept):
            place = Folder(old.url)
            place.fs.rm(place.path(STATE))  # first, so that what is left is no checkpoint
            place.fs.rm(place.root, recursive=True)


def best_of(found: list[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest validation loss, where there is any."""
    scores = {each: _state(each).get("score") for each in found}
    known = {each: score for each, score in scores.items() if score is not None}
    return min(known, key=lambda each: known[each]) if known else None


def sweep(folder: str | Path) -> None:
    """Remove what a killed process left unfinished."""
    place = Folder(str(folder))
    whole = {each.name for each in all_in(folder)}
    for path in place.fs.glob(place.path("step-*")):
        if path.rsplit("/", 1)[1] not in whole:
            place.fs.rm(path, recursive=True)


def read_told(found: Checkpoint) -> dict[str, Any]:
    """What the run of this checkpoint was told. Raises CheckpointError."""
    return _state(found)["told"]


def load(found: Checkpoint, told: Mapping[str, Any], trainer: "Trainer", group: Any = None) -> None:
    """Go on where `save` was.

    Raises CheckpointError where files are damaged, OtherRunError, with the differences, where `told` is another.
    """
    state = _state(found)
    before, now = dict(_leaves(state.pop("told"))), dict(_leaves(json.loads(json.dumps(told))))
    if different := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        lines = [f"  {name}: {before.get(name, 'not set')} -> {now.get(name, 'not set')}" for name in different]
        raise OtherRunError(
            f"{found} belongs to a run that was told otherwise:\n" + "\n".join(lines) + "\n"
            "Give what it was given, or start another run with --out elsewhere and --init from this one's model"
        )
    tensors = trainer.tensors()
    try:
        reader = Reader(Folder(found.url))
        reader.check(tensors)
        dcp.load(dict(tensors), storage_reader=reader, process_group=group, no_dist=trainer.ranks.count == 1)
    except (DamagedError, CheckpointException) as error:
        damage = _damage(error)
        if damage is None:
            raise
        raise CheckpointError(f"{damage}. Remove {found}, and the run goes on from the one before") from error
    trainer.go_on(state)


def _damage(error: BaseException) -> DamagedError | None:
    """What is damaged, of one process or of several."""
    if isinstance(error, CheckpointException):
        failures = [failure for failure, _ in error.failures.values()]
        return next((failure for failure in failures if isinstance(failure, DamagedError)), None)
    return error if isinstance(error, DamagedError) else None


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


def _state(found: Checkpoint) -> dict[str, Any]:
    try:
        state = json.loads(Folder(found.url).read(STATE))
        if state.pop("format") != FORMAT or not isinstance(state["told"], dict):
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{found}/{STATE} is no state of a training run ({error}). Remove {found}, and the run goes on from the "
            "checkpoint before it"
        ) from error
    return state


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{name}.{key}" if name else key)]
    return [(name, value)]
