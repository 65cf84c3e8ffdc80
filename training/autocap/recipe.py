"""Training recipe of AutoCap (paper, sections 3.1, 4.1 and D.1): loads the model, checks the data, builds the task,
validates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models import DEMO
from autorecap.models.autocap import AutoCap
from autorecap.models.autocap.model import AudioFeatures
from autorecap.models.autocap.tokens import IGNORE
from autorecap.training import run
from autorecap.training.autocap.task import AutoCapTask, AutoCapTaskConfig, CaptionBatch
from autorecap.training.data_checks import check_audio
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import Trainer
from autorecap.training.loop.validation import Measured, validation_means
from autorecap.training.recipe import Recipe, RunConfig, RunError, Say
from autorecap.training.run import Outcome

VALIDATION_BATCH = 32  # clips, if loop.micro_batch_size does not say


@dataclass(frozen=True, kw_only=True)
class AutoCapTraining(Section, name=""):
    """All settings of a training of AutoCap."""

    init_names: ClassVar[tuple[str, ...]] = (DEMO,)
    """What `init` takes beside folders and hub ids."""

    task: AutoCapTaskConfig = setting(AutoCapTaskConfig, "what learns, and from which loss")
    examples: ExamplesConfig = setting(ExamplesConfig, "how examples are drawn from clips")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule")
    run: RunConfig = setting(RunConfig, "checkpoints and validation")


def train_autocap(config: AutoCapTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the captioner. Its `init` is a folder, a hub id, or "demo"; options as `run.train`."""
    return run.train(AutoCapRecipe(config), data, out, **options)


class AutoCapRecipe(Recipe):
    """Training recipe of the captioner."""

    model: AutoCap

    def __init__(self, config: AutoCapTraining) -> None:
        self.config = config

    def load(self, init: str) -> AutoCap:
        if not init:
            raise RunError(
                "--init is missing: name a folder or a hub id of an AutoCap whose encoders and BART are trained "
                "(stage 2: the model folder of stage 1), or --init demo for the small bundled one"
            )
        return AutoCap.from_pretrained(init)

    def check(self, clips: Manifest) -> None:
        check_audio(clips)

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, ranks: Ranks, resumed: bool) -> AutoCapTask:
        config = self.config
        examples = ClipExamples(clips, config.examples, self.model.config.window_s, loop.seed, config.data.window)
        return AutoCapTask(self.model, examples, config.task, loop.seed)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Return the loss per token, and say some captions beside what people wrote."""
        task = trainer.task
        assert isinstance(task, AutoCapTask)
        examples = PlainExamples(held_out, self.model.config.window_s)
        left_to_show = self.config.run.validation_captions

        def measure(batch: CaptionBatch) -> Measured:
            nonlocal left_to_show
            on_device = task.to(batch._replace(stripes=None), trainer.device)
            scored = trainer.module(on_device)  # in fp32 on a GPU as well: no autocast
            loss, num_tokens = scored.loss.item(), float(scored.weight)
            if left_to_show > 0:
                left_to_show -= self._show_captions(on_device, left_to_show, say)
            return Measured({"validation_loss": loss}, num_tokens)

        return validation_means(
            lambda positions: task.batch_of(examples, positions),
            measure,
            num_clips=min(len(held_out), self.config.run.validation_clips),
            batch_size=trainer.config.micro_batch_size or VALIDATION_BATCH,
            say=say,
        )

    def _show_captions(self, batch: CaptionBatch, count: int, say: Say) -> int:
        """Say up to `count` captions of a batch, and return how many there were."""
        assert isinstance(batch.audio, AudioFeatures)
        heard = self.model.hear(AudioFeatures(*(mel[:count] for mel in batch.audio)))
        written = self.model.generate(heard, batch.metadata_ids[:count], batch.metadata_mask[:count])
        references = batch.labels[:count].masked_fill(batch.labels[:count] == IGNORE, 1)
        decode = self.model.tokenizer.decode
        for name, reference, caption in zip(batch.names, references.tolist(), written.tolist(), strict=False):
            say(f"  {name}: {decode(caption)!r}, written by people: {decode(reference)!r}")
        return len(references)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def about(self) -> str:
        return f", frozen: {', '.join(self.config.task.frozen) or 'nothing'}"
