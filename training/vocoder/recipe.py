"""The training of the vocoder within a GenAu, as HiFi-GAN is trained. What any training has is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.genau.audio import log_mel
from autorecap.training import run
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import LoopConfig, Trainer
from autorecap.training.run import Outcome, RunConfig, Say
from autorecap.training.vae.recipe import SoundRecipe
from autorecap.training.vocoder.task import VocoderTask, VocoderTaskConfig


@dataclass(frozen=True, kw_only=True)
class VocoderTraining(Section, name=""):
    """Everything that a training of the vocoder can be told."""

    task: VocoderTaskConfig = setting(VocoderTaskConfig, "what is minimised")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule; the discriminators have the same")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_vocoder(config: VocoderTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the vocoder of a GenAu; see `run.train`. `init`: folder or hub id, or the size of a new one."""
    return run.train(VocoderRecipe(config), data, out, **options)


class VocoderRecipe(SoundRecipe):
    """Of the vocoder."""

    def __init__(self, config: VocoderTraining) -> None:
        self.config = config

    def learning(self) -> nn.Module:
        return self.model.vocoder

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, who: Ranks, resumed: bool) -> VocoderTask:
        return VocoderTask(self.model.vocoder, self.examples(clips, loop), self.config.task, loop.seed)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """The L1 between the log-mels of whole clips and of what the vocoder makes of them."""
        task = trainer.task
        assert isinstance(task, VocoderTask)
        total, count = 0.0, 0
        for number in range(min(len(held_out), self.config.run.validation_clips)):
            batch = task.to(task.whole(self.heard(held_out), [number]), trainer.device)
            for what in batch.unreadable:
                say(f"validation: left out, as it cannot be read: {what}")
            if batch.names:
                mel_BMT = log_mel(batch.x_BS)
                with trainer.autocast:
                    made_BS = self.model.vocoder(mel_BMT)
                total += float((log_mel(made_BS) - mel_BMT).abs().mean())
                count += 1
        return {"validation_loss": total / count} if count else {}

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Clips as they are, and as the vocoder makes them of their log-mels."""
        task = trainer.task
        assert isinstance(task, VocoderTask)
        made: list[tuple[Any, Tensor]] = []
        count = min(len(held_out) or len(self._clips), max(self.config.run.num_samples // 2, 1))
        for number in range(count):
            batch = task.to(task.whole(self.heard(held_out), [number]), trainer.device)
            if batch.names:
                with trainer.autocast:
                    again_BS = self.model.vocoder(log_mel(batch.x_BS))
                made.append((f"{batch.names[0]}, as it is", batch.x_BS[0]))
                made.append((f"{batch.names[0]}, of its log-mel", again_BS[0]))
        return made

    def save(self, folder: Path) -> None:
        self.model.vocoder.remove_weight_norm()
        super().save(folder)
