"""Training recipe of the vocoder in a GenAu, as HiFi-GAN is trained: builds the task, validates, samples, saves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.genau.audio import log_mel
from autorecap.models.genau.config import SIZES
from autorecap.training import run
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import Trainer
from autorecap.training.loop.validation import Measured, validation_means
from autorecap.training.recipe import RunConfig, Say
from autorecap.training.run import Outcome
from autorecap.training.sound_recipe import SoundRecipe
from autorecap.training.vocoder.task import PieceBatch, VocoderTask, VocoderTaskConfig


@dataclass(frozen=True, kw_only=True)
class VocoderTraining(Section, name=""):
    """All settings of a training of the vocoder."""

    init_names: ClassVar[tuple[str, ...]] = tuple(SIZES)
    """What `init` takes beside folders and hub ids."""

    task: VocoderTaskConfig = setting(VocoderTaskConfig, "what is minimised")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule; the discriminators have the same")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_vocoder(config: VocoderTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the vocoder of a GenAu. Its `init` is a folder, a hub id, or the size of a new one; options as
    `run.train`."""
    return run.train(VocoderRecipe(config), data, out, **options)


class VocoderRecipe(SoundRecipe):
    """Training recipe of the vocoder."""

    def __init__(self, config: VocoderTraining) -> None:
        self.config = config

    def trained_part(self) -> nn.Module:
        return self.model.vocoder

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, ranks: Ranks, resumed: bool) -> VocoderTask:
        return VocoderTask(self.model.vocoder, self.examples(clips, loop), self.config.task, loop.seed)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Return the L1 distance between the log-mels of whole clips and of what the vocoder makes of them."""
        task = trainer.task
        assert isinstance(task, VocoderTask)
        examples = self.plain_examples(held_out)

        def measure(batch: PieceBatch) -> Measured:
            mel_BMT = log_mel(task.to(batch, trainer.device).x_BS)
            with trainer.autocast:
                made_BS = self.model.vocoder(mel_BMT)
            return Measured({"validation_loss": float((log_mel(made_BS) - mel_BMT).abs().mean())}, 1)

        return validation_means(
            lambda positions: task.whole(examples, positions),
            measure,
            num_clips=min(len(held_out), self.config.run.validation_clips),
            batch_size=1,
            say=say,
        )

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Return clips as they are, and as the vocoder makes them from their log-mels."""
        task = trainer.task
        assert isinstance(task, VocoderTask)
        examples = self.plain_examples(held_out)
        sounds: list[tuple[Any, Tensor]] = []
        for number in self.sampled_clips(held_out):
            batch = task.to(task.whole(examples, [number]), trainer.device)
            if batch.names:
                with trainer.autocast:
                    again_BS = self.model.vocoder(log_mel(batch.x_BS))
                sounds.append((f"{batch.names[0]}, as it is", batch.x_BS[0]))
                sounds.append((f"{batch.names[0]}, of its log-mel", again_BS[0]))
        return sounds

    def save(self, folder: Path) -> None:
        self.model.vocoder.remove_weight_norm()
        super().save(folder)
