"""Checkpoints of a run: folders on a local disk or in S3, which count once their last file is written.

RUN/checkpoints/step-00001000/
    rank-*.safetensors, tensors.json    every tensor of the state, see `tensor_files`
    state.json                          position and identity of the run; only that run may go on from it

`state.json` is written last: a folder without it is no checkpoint. Checkpoints are written beside the training, which
waits only for the copy in memory. Any number of processes can read what any other number wrote.
"""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.storage import WriteResult

from autorecap.base.errors import REFUSED, ForeseenError
from autorecap.base.files import explanation
from autorecap.base.folder import Folder
from autorecap.dataset.fingerprint import explain_difference
from autorecap.training.checkpoint.tensor_files import DamagedError, Reader, Writer, group_of
from autorecap.training.loop.processes import Ranks

if TYPE_CHECKING:
    from autorecap.training.loop.trainer import Trainer

FORMAT = "autorecap-training/2"
STATE = "state.json"
IDENTITY = "told"  # its name in the format
_NAME = re.compile(r"step-(\d+)")


class CheckpointError(ForeseenError):
    """A checkpoint cannot be used. The message names it and says what to do."""


class OtherRunError(ForeseenError):
    """A checkpoint belongs to a run with other data, settings or weights."""

    exit_code = REFUSED


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is complete."""

    url: str
    step: int

    @property
    def name(self) -> str:
        return f"step-{self.step:08d}"

    def __str__(self) -> str:
        return self.url


def all_in(folder: str | Path) -> list[Checkpoint]:
    """Return the complete checkpoints of a folder, oldest first. Raises CheckpointError."""
    checkpoints = []
    try:
        place = Folder(str(folder))
        paths = place.fs.glob(place.path(f"step-*/{STATE}"))
    except Exception as error:  # every fsspec back-end has errors of its own
        raise CheckpointError(
            f"{folder} cannot be searched for checkpoints: {explanation(str(folder), error)}"
        ) from error
    for path in paths:
        name = path.rsplit("/", 2)[1]
        if match := _NAME.fullmatch(name):
            checkpoints.append(Checkpoint(f"{str(folder).rstrip('/')}/{name}", int(match[1])))
    return sorted(checkpoints, key=lambda each: each.step)


def _expect_one_process() -> None:
    """Keep torch from a warning at every checkpoint that one process alone writes or reads.

    The filter stays: the warning comes from torch's own thread, and filters are the process's.
    """
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class Saver:
    """Writes the checkpoints of a run. All processes call it at the same steps."""

    def __init__(self, folder: str | Path, ranks: Ranks, keep: int) -> None:
        self.folder, self.ranks, self.keep = str(folder).rstrip("/"), ranks, keep
        self._group = group_of(ranks)
        _expect_one_process()
        self._writing: Any = None

    def save(self, trainer: "Trainer", identity: Mapping[str, Any], score: float | None = None) -> Checkpoint:
        """Begin to write the state, and return. The last `keep` are kept, and the one with the lowest score.

        identity: plain values that fix the run; `load` refuses the checkpoint to a run with others
        score: the validation loss, if it is known

        Raises the error that writing the checkpoint before this one ended with.
        """
        self.wait()
        state = {"format": FORMAT, **trainer.numbers(), "score": score, IDENTITY: identity}
        new = Checkpoint(f"{self.folder}/step-{trainer.step:08d}", trainer.step)
        exists = False
        if self.ranks.first:
            exists = any(each.step == new.step for each in all_in(self.folder))
            if not exists:
                sweep(self.folder)
        if self.ranks.agree(exists):
            return new
        writer = _CheckpointWriter(Folder(new.url), state, self.folder, self.keep)
        self._writing = async_save(
            dict(trainer.tensors()),
            storage_writer=writer,
            process_group=self._group,
            no_dist=self.ranks.count == 1,
        )
        return new

    def wait(self) -> None:
        """Wait until the checkpoint that was begun is complete."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


class _CheckpointWriter(Writer):
    """Writes the tensors, then the state, and then removes old checkpoints."""

    def __init__(self, folder: Folder, state: Mapping[str, Any], parent: str, keep: int) -> None:
        super().__init__(folder)
        self.state, self.parent, self.keep = state, parent, keep

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        self.folder.put(STATE, json.dumps(self.state, indent=1).encode())
        checkpoints = all_in(self.parent)
        kept = {each.step for each in checkpoints[-self.keep :]}
        if len(kept) < len(checkpoints) and (best := best_of(checkpoints)):
            kept.add(best.step)
        for old in (each for each in checkpoints if each.step not in kept):
            place = Folder(old.url)
            place.fs.rm(place.path(STATE))  # first, so that an interruption leaves no damaged checkpoint
            place.fs.rm(place.root, recursive=True)


def best_of(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint with the lowest validation loss; None if none has a loss."""
    scores = {each: _state(each).get("score") for each in checkpoints}
    known = {each: score for each, score in scores.items() if score is not None}
    return min(known, key=lambda each: known[each]) if known else None


def sweep(folder: str | Path) -> None:
    """Remove the incomplete checkpoints that killed processes left."""
    place = Folder(str(folder))
    complete = {each.name for each in all_in(folder)}
    for path in place.fs.glob(place.path("step-*")):
        if path.rsplit("/", 1)[1] not in complete:
            place.fs.rm(path, recursive=True)


def read_identity(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the identity of the run that wrote the checkpoint. Raises CheckpointError."""
    identity: dict[str, Any] = _state(checkpoint)[IDENTITY]
    return identity


def load(checkpoint: Checkpoint, identity: Mapping[str, Any], trainer: "Trainer", group: Any = None) -> None:
    """Read the state into the trainer, which then goes on from it.

    Raises CheckpointError for damaged files, OtherRunError with the differences if `identity` is another.
    """
    state = _state(checkpoint)
    before, now = dict(_leaves(state.pop(IDENTITY))), dict(_leaves(json.loads(json.dumps(identity))))
    if difference := explain_difference(before, now):
        raise OtherRunError(
            f"{checkpoint} belongs to a run with other data, settings or weights:\n{difference}\n"
            "Resume with the same, or start another run with another --out, and --init from this run's model"
        )
    tensors = trainer.tensors()
    _expect_one_process()
    try:
        reader = Reader(Folder(checkpoint.url))
        reader.check(tensors)
        dcp_load(dict(tensors), storage_reader=reader, process_group=group, no_dist=trainer.ranks.count == 1)
    except (DamagedError, CheckpointException) as error:
        damage = _damage(error)
        if damage is None:
            raise
        raise CheckpointError(
            f"{damage}. Remove {checkpoint}, and the run goes on from the checkpoint before it"
        ) from error
    trainer.go_on(state)


def _damage(error: BaseException) -> DamagedError | None:
    """Return the damage behind an error of one process or of several; None for other errors."""
    if isinstance(error, CheckpointException):
        failures = [failure for failure, _ in error.failures.values()]
        return next((failure for failure in failures if isinstance(failure, DamagedError)), None)
    return error if isinstance(error, DamagedError) else None


def _state(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(Folder(checkpoint.url).read(STATE))
        if state.pop("format") != FORMAT or not isinstance(state[IDENTITY], dict):
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint}/{STATE} is not the state of a training run ({error}). Remove {checkpoint}, and the run goes "
            "on from the checkpoint before it"
        ) from error
    return state


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{name}.{key}" if name else key)]
    return [(name, value)]
