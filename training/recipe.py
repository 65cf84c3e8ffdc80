"""Recipe: the part of a training that differs between models. What all trainings share is in `training/run.py`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.base.errors import BAD_USAGE, ForeseenError
from autorecap.base.settings import FILE, Section, setting
from autorecap.dataset.reading.manifest import Manifest
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.task import Task
from autorecap.training.loop.trainer import Trainer

Say = Callable[[str], None]
"""Takes a line for the person who watches the run."""
CHECKPOINTS = "checkpoints"
"""The folder of a run's checkpoints in the run's own."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Section, name="run"):
    """Settings of what happens between steps: checkpoints, validation, samples, logs."""

    save_every: int = setting(1_000, "Steps from checkpoint to checkpoint; the last step is saved as well.", ge=1)
    keep: int = setting(
        2, "Checkpoints kept, the last ones; the one with the lowest validation loss stays as well.", ge=1
    )
    checkpoints: str = setting("", "Where they are, such as s3://bucket/prefix; empty: in the run's folder.", path=FILE)
    validate_every: int = setting(1_000, "Steps from validation to validation, where there is data for it.", ge=1)
    validation_clips: int = setting(256, "Clips to validate on: the first ones of the validation data.", ge=1)
    validation_captions: int = setting(
        8, "Captions printed at each validation beside what people wrote (AutoCap only).", ge=0
    )
    sample_every: int = setting(5_000, "Steps from samples to samples, of models that make sounds.", ge=1)
    num_samples: int = setting(4, "Sounds made each time, one for each of the first prompts.", ge=0)
    wandb: str = setting("", "Project in Weights & Biases that also receives the logs; empty: none.")

    def checkpoints_of(self, out: str | Path) -> str:
        """Return the folder or URL of the checkpoints of a run in the folder `out`."""
        return self.checkpoints or f"{out}/{CHECKPOINTS}"


class RunError(ForeseenError):
    """A run cannot begin with these arguments, settings or files."""

    exit_code = BAD_USAGE


class Recipe(ABC):
    """What one kind of model brings to its training: loading, checks of the data, task, validation, samples, saving.

    `config` has the sections `loop`, `run`, `data`, and those of the model. `model` is set by the run after `load`.
    """

    config: Any
    model: nn.Module

    @abstractmethod
    def load(self, init: str) -> nn.Module:
        """Return the model that `--init` names. Raises RunError or ModelFilesError."""

    @abstractmethod
    def check(self, clips: Manifest) -> None:
        """Raise ForeseenError if the model cannot take these clips; called for training and validation data."""

    @abstractmethod
    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, ranks: Ranks, resumed: bool) -> Task:
        """Return the task that trains the model on these clips. All processes call it.

        Raises ForeseenError for settings that do not fit the model or the data.
        """

    @abstractmethod
    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Return means over the validation clips, `validation_loss` first; {} if no clip could be read."""

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Return sounds at 16 kHz, each with its prompt or description; none by default."""
        return []

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model in the form that `from_pretrained` reads."""

    def weights(self) -> dict[str, nn.Module]:
        """Return the modules whose weights fix the run, by the names that an error about a difference gives them."""
        return {"init": self.model}

    def notes(self, clips: Manifest) -> list[str]:
        """Return lines to print when the run begins, about how these clips are used."""
        return []

    def about(self) -> str:
        """Return the end of the line that introduces the run, such as ", frozen: bart"."""
        return ""
