"""The training of AutoCap (paper, sections 3.1, 4.1 and D.1). What any training has is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.checks import check_audio
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.autocap import AutoCap
from autorecap.training import run
from autorecap.training.autocap.task import AutoCapTask, AutoCapTaskConfig, validate
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import LoopConfig, Trainer
from autorecap.training.run import Interrupted, Outcome, Recipe, RunConfig, RunError, Say

__all__ = ["AutoCapTraining", "Interrupted", "Outcome", "RunConfig", "RunError", "train_autocap"]

DEMO = "demo"
"""As `--init`: the bundled small model."""


@dataclass(frozen=True, kw_only=True)
class AutoCapTraining(Section, name=""):
    """Everything that a training of AutoCap can be told."""

    task: AutoCapTaskConfig = setting(AutoCapTaskConfig, "what learns, and from which loss")
    examples: ExamplesConfig = setting(ExamplesConfig, "how examples are drawn from clips")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule")
    run: RunConfig = setting(RunConfig, "checkpoints and validation")


def train_autocap(config: AutoCapTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train AutoCap; see `run.train`. `init`: folder, hub id, or "demo"."""
    return run.train(AutoCapRecipe(config), data, out, **options)


class AutoCapRecipe(Recipe):
    """Of the captioner."""

    model: AutoCap

    def __init__(self, config: AutoCapTraining) -> None:
        self.config = config

    def load(self, init: str) -> AutoCap:
        if not init:
            raise RunError(
                "say where to start from: --init FOLDER or a hub id of an AutoCap whose encoders and BART are trained "
                "(stage 2: the model folder of stage 1), or --init demo for the small bundled one"
            )
        return AutoCap.from_pretrained(AutoCap.DEMO if init == DEMO else init)

    def check(self, clips: Manifest) -> None:
        check_audio(clips)

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, who: Ranks, resumed: bool) -> AutoCapTask:
        config = self.config
        examples = ClipExamples(clips, config.examples, self.model.config.window_s, loop.seed, config.data.window)
        return AutoCapTask(self.model, examples, config.task, loop.seed)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        config: RunConfig = self.config.run
        assert isinstance(trainer.task, AutoCapTask)
        num_clips = min(len(held_out), config.validation_clips)
        batch_size = min(num_clips, trainer.config.micro_batch_size or 32)
        examples = PlainExamples(held_out, self.model.config.window_s)
        shown = config.validation_captions
        return validate(trainer.task, examples, num_clips, batch_size, shown, trainer.device, say)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def about(self) -> str:
        return f", frozen: {', '.join(self.config.task.frozen) or 'nothing'}"
