"""Training recipe of the VAE in a GenAu (paper, section 3.3): loads it, builds the task, validates, samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.checkpoint import read_checkpoint
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.audio import griffin_lim, log_mel
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.official.vae import lpips_from_official
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.training import run
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import Trainer
from autorecap.training.loop.validation import VALIDATION_SEED, Measured, validation_means
from autorecap.training.recipe import RunConfig, Say
from autorecap.training.run import Outcome
from autorecap.training.sound_recipe import SoundRecipe
from autorecap.training.vae.task import VAE_PLAYER, SoundBatch, VAETask, VAETaskConfig

VALIDATION_BATCH = 16  # clips, if loop.micro_batch_size does not say


@dataclass(frozen=True, kw_only=True)
class VAETraining(Section, name=""):
    """All settings of a training of the VAE."""

    init_names: ClassVar[tuple[str, ...]] = tuple(SIZES)
    """What `init` takes beside folders and hub ids."""

    task: VAETaskConfig = setting(VAETaskConfig, "what is minimised")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule; the discriminator has the same")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_vae(config: VAETraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the VAE of a GenAu. Its `init` is a folder, a hub id, or the size of a new one; options as `run.train`."""
    return run.train(VAERecipe(config), data, out, **options)


def read_lpips(paths: Sequence[str]) -> Lpips:
    """Return the perceptual distance with weights from these files together. Raises ModelFilesError naming them."""
    tensors = {name: tensor for path in paths for name, tensor in read_checkpoint(path).tensors.items()}
    try:
        return lpips_from_official(tensors)
    except ValueError as error:
        raise ModelFilesError(f"task.lpips: {', '.join(paths)}: {error}") from error


class VAERecipe(SoundRecipe):
    """Training recipe of the VAE."""

    def __init__(self, config: VAETraining) -> None:
        self.config = config

    def load(self, init: str) -> GenAu:
        self.lpips = read_lpips(self.config.task.lpips) if self.config.task.lpips else None
        return super().load(init)

    def weights(self) -> dict[str, nn.Module]:
        return super().weights() | ({"task.lpips": self.lpips} if self.lpips else {})

    def trained_part(self) -> nn.Module:
        return self.model.vae

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, ranks: Ranks, resumed: bool) -> VAETask:
        return VAETask(self.model.vae, self.examples(clips, loop), self.config.task, loop.seed, self.lpips)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Return the loss without the discriminator's part, at fixed noise, and its terms."""
        task = trainer.task
        assert isinstance(task, VAETask)
        examples = self.plain_examples(held_out)

        def measure(batch: SoundBatch) -> Measured:
            with trainer.autocast:
                scored = trainer.module(task.to(batch, trainer.device), VAE_PLAYER, trainer.step)
            numbers = {"validation_loss": scored.loss, **scored.numbers}
            return Measured({name: float(value) for name, value in numbers.items()}, len(batch.names))

        return validation_means(
            lambda positions: task.batch_of(examples, positions, VALIDATION_SEED),
            measure,
            num_clips=min(len(held_out), self.config.run.validation_clips),
            batch_size=trainer.config.micro_batch_size or VALIDATION_BATCH,
            say=say,
        )

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Return clips as they are and through the VAE, both by way of log-mels, without a vocoder."""
        task = trainer.task
        assert isinstance(task, VAETask)
        examples = self.plain_examples(held_out)
        sounds: list[tuple[Any, Tensor]] = []
        for number in self.sampled_clips(held_out):
            batch = task.to(task.batch_of(examples, [number], VALIDATION_SEED), trainer.device)
            if batch.names:
                mel_BMT = log_mel(batch.x_BS)
                with trainer.autocast:
                    again_BMT = self.model.vae.decode(self.model.vae.encode(mel_BMT).mean).float()
                for origin, mel in (("as it is", mel_BMT), ("through the VAE", again_BMT)):
                    sounds.append((f"{batch.names[0]}, {origin}", griffin_lim(mel)[0]))
        return sounds
