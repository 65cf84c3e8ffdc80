"""The training of the VAE within a GenAu (paper, section 3.3). What any training has is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.checks import check_audio, check_rates
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.checkpoint import read_checkpoint
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.audio import MEL, griffin_lim, log_mel
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.official.vae import lpips_from_official
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.training import run
from autorecap.training.generator_inputs import open_generator
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import LoopConfig, Trainer
from autorecap.training.run import Outcome, Recipe, RunConfig, Say
from autorecap.training.vae.task import VAE_PLAYER, VAETask, VAETaskConfig

FIXED_SEED = 0  # of the noise in validation, whatever the run's


@dataclass(frozen=True, kw_only=True)
class VAETraining(Section, name=""):
    """Everything that a training of the VAE can be told."""

    task: VAETaskConfig = setting(VAETaskConfig, "what is minimised")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule; the discriminator has the same")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_vae(config: VAETraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the VAE of a GenAu; see `run.train`. `init`: folder or hub id, or the size of a new one."""
    return run.train(VAERecipe(config), data, out, **options)


def read_lpips(paths: Sequence[str]) -> Lpips:
    """The perceptual distance, its weights from these files together. Raises ModelFilesError that names them."""
    tensors = {name: tensor for path in paths for name, tensor in read_checkpoint(path).tensors.items()}
    try:
        return lpips_from_official(tensors)
    except ValueError as error:
        raise ModelFilesError(f"task.lpips: {', '.join(paths)}: {error}") from error


class SoundRecipe(Recipe):
    """What VAE and vocoder have in common: a part of a GenAu that learns from sound alone."""

    model: GenAu
    _clips: Manifest

    def load(self, init: str) -> GenAu:
        return open_generator(init, with_text=False)

    def check(self, clips: Manifest) -> None:
        check_audio(clips)
        check_rates(clips, MEL.sample_rate_hz)

    def examples(self, clips: Manifest, loop: LoopConfig) -> ClipExamples:
        """Each clip as it is."""
        self._clips = clips
        plain = ExamplesConfig(mix_p=0.0, drop_title_p=1.0, drop_video_caption_p=1.0)
        return ClipExamples(clips, plain, self.seconds, loop.seed, self.config.data.window)

    @property
    def seconds(self) -> float:
        """Of the longest clip."""
        return float(self.config.task.seconds)

    def heard(self, held_out: Manifest) -> PlainExamples:
        """What is listened to: validation data, or else what is learned from."""
        return PlainExamples(held_out if len(held_out) else self._clips, self.seconds)

    def learning(self) -> nn.Module:
        """The part that learns."""
        raise NotImplementedError

    def about(self) -> str:
        return f" in the {type(self.learning()).__name__} of size {self.model.config.size} and its discriminators"

    def save(self, folder: Path) -> None:
        self.model.cpu().save_pretrained(folder)


class VAERecipe(SoundRecipe):
    """Of the VAE."""

    def __init__(self, config: VAETraining) -> None:
        self.config = config

    def load(self, init: str) -> GenAu:
        self.lpips = read_lpips(self.config.task.lpips) if self.config.task.lpips else None
        return super().load(init)

    def weights(self) -> dict[str, nn.Module]:
        return super().weights() | ({"task.lpips": self.lpips} if self.lpips else {})

    def learning(self) -> nn.Module:
        return self.model.vae

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, who: Ranks, resumed: bool) -> VAETask:
        return VAETask(self.model.vae, self.examples(clips, loop), self.config.task, loop.seed, self.lpips)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """The loss without the discriminator's say, at fixed noise, and its parts."""
        task = trainer.task
        assert isinstance(task, VAETask)
        num_clips = min(len(held_out), self.config.run.validation_clips)
        at_once = min(num_clips, trainer.config.micro_batch_size or 16)
        examples, sums, count = self.heard(held_out), dict[str, float](), 0
        for first in range(0, num_clips, at_once):
            batch = task.batch_of(examples, range(first, min(first + at_once, num_clips)), FIXED_SEED)
            for what in batch.unreadable:
                say(f"validation: left out, as it cannot be read: {what}")
            if batch.names:
                with trainer.autocast:
                    scored = trainer.module(task.to(batch, trainer.device), VAE_PLAYER, trainer.step)
                count += len(batch.names)
                for name, value in {"validation_loss": scored.loss, **scored.numbers}.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(batch.names)
        return {name: value / count for name, value in sums.items()} if count else {}

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Clips as they are and as the VAE gives them back, both by way of log-mels and without a vocoder."""
        task = trainer.task
        assert isinstance(task, VAETask)
        made: list[tuple[Any, Tensor]] = []
        count = min(len(held_out) or len(self._clips), max(self.config.run.num_samples // 2, 1))
        for number in range(count):
            batch = task.to(task.batch_of(self.heard(held_out), [number], FIXED_SEED), trainer.device)
            if batch.names:
                mel_BMT = log_mel(batch.x_BS)
                with trainer.autocast:
                    again_BMT = self.model.vae.decode(self.model.vae.encode(mel_BMT).mean).float()
                for what, mel in (("as it is", mel_BMT), ("through the VAE", again_BMT)):
                    made.append((f"{batch.names[0]}, {what}", griffin_lim(mel)[0]))
        return made
