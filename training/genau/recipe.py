"""Training recipe of GenAu (paper, sections 3.3, 4.2 and D.2): loads it, checks the data, builds the task, validates,
samples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.examples import CAPTIONS_ALONE, ClipExamples, ExamplesConfig, PlainExamples
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.genau.audio import MEL
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.model import GenAu
from autorecap.training import run
from autorecap.training.data_checks import check_latents, check_rates, latent_sets, scale_factor, unit_scale
from autorecap.training.genau.task import ClipBatch, GenAuTask, GenAuTaskConfig
from autorecap.training.generator_inputs import open_generator
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import Trainer
from autorecap.training.loop.validation import VALIDATION_SEED, Measured, validation_means
from autorecap.training.recipe import Recipe, RunConfig, RunError, Say
from autorecap.training.run import Outcome

NUM_BINS = 10  # of timesteps, in validation
VALIDATION_BATCH = 32  # clips, if loop.micro_batch_size does not say


@dataclass(frozen=True, kw_only=True)
class GenAuTraining(Section, name=""):
    """All settings of a training of GenAu."""

    init_names: ClassVar[tuple[str, ...]] = tuple(SIZES)
    """What `init` takes beside folders and hub ids."""

    task: GenAuTaskConfig = setting(GenAuTaskConfig, "what is learned, from what")
    examples: ExamplesConfig = setting(CAPTIONS_ALONE, "how examples are drawn from clips")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_genau(config: GenAuTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the generator. Its `init` is a folder, a hub id, or the size of a new one; options as `run.train`."""
    return run.train(GenAuRecipe(config), data, out, **options)


class GenAuRecipe(Recipe):
    """Training recipe of the generator."""

    model: GenAu

    def __init__(self, config: GenAuTraining) -> None:
        self.config = config

    def load(self, init: str) -> GenAu:
        return open_generator(init, self.config.task.t5, self.config.task.clap)

    def check(self, clips: Manifest) -> None:
        model = self.model
        text = model.text.digest() if model.text is not None else ""
        check_latents(clips, vae=model.vae.digest(), text=text, max_frames=model.backbone.max_frames)
        check_rates(clips, MEL.sample_rate_hz)

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, ranks: Ranks, resumed: bool) -> GenAuTask:
        config, model = self.config, self.model
        model.config.dataset_id(config.task.dataset)
        model.to(device)
        seconds = model.config.max_seconds
        examples = ClipExamples(clips, config.examples, seconds, loop.seed, config.data.window)
        encoded = latent_sets(clips)
        if encoded and config.examples.mix_p:
            raise RunError(
                f"examples.mix_p={config.examples.mix_p:g} mixes clips, and latents cannot be mixed: set it to 0, or "
                "train on the audio"
            )
        task = GenAuTask(model, examples, config.task, loop.seed)
        if not resumed:  # else it is in the checkpoint
            if encoded:
                scale = scale_factor(encoded)
            else:
                scale = self._measure_scale(task, clips, device) if ranks.first else 0.0
            model.scale_factor.fill_(ranks.agree(scale))
        self._clips = clips
        model.config = replace(model.config, default_dataset=self._main_style(clips))
        return task

    def _main_style(self, clips: Manifest) -> str:
        """Return the style that has most of the turns."""
        turns: dict[str, Any] = {}
        for each, share in zip(clips.sets, clips.shares, strict=True):
            style = each.name if each.name in self.model.config.datasets else self.config.task.dataset
            turns[style] = turns.get(style, 0) + share
        return max(turns, key=turns.__getitem__)

    def notes(self, clips: Manifest) -> list[str]:
        """Return a line for every set whose given name is no style of the model."""
        styles, default = self.model.config.datasets, self.config.task.dataset
        return [
            f"the model knows no style {name!r}, only {', '.join(styles)}: the data of that name is learned as "
            f"{default!r}, as task.dataset says"
            for name in sorted(set(clips.given_names) - set(styles))
        ]

    @torch.no_grad()
    def _measure_scale(self, task: GenAuTask, clips: Manifest, device: torch.device) -> float:
        """Return the factor that brings latents to unit variance, measured on clips from all over the data."""
        count = min(len(clips), self.config.task.scale_clips)
        examples = PlainExamples(clips, self.model.config.max_seconds)
        sums, unreadable = torch.zeros(3, dtype=torch.float64), list[str]()
        for number in range(count):
            batch = task.batch_of(examples, [number * len(clips) // count], VALIDATION_SEED)
            unreadable += batch.unreadable
            if batch.names:
                mean_CT, logvar_CT = (x[0, :, : batch.frames[0]].double() for x in task.posterior(batch, device))
                squares = (mean_CT.square() + logvar_CT.exp()).sum()
                sums += torch.stack([torch.tensor(float(mean_CT.numel())), mean_CT.sum().cpu(), squares.cpu()])
        values, total, squares_all = sums.tolist()
        if not values:
            raise RunError(f"none of {count} clips of the data can be read; the first: {unreadable[0]}")
        return unit_scale(values, total, squares_all, f"latents of {count} clips")

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """Return the loss at fixed noise in the middle of every tenth of the timesteps, and before them its mean."""
        task = trainer.task
        assert isinstance(task, GenAuTask)
        examples = PlainExamples(held_out, self.model.config.max_seconds)
        width = self.model.config.diffusion.num_timesteps // NUM_BINS
        names = [f"validation_loss_t{i * width}_{(i + 1) * width - 1}" for i in range(NUM_BINS)]

        def measure(batch: ClipBatch) -> Measured:
            with_conditions = batch._replace(dropped_B=torch.zeros_like(batch.dropped_B))
            noisy = task.to(with_conditions, trainer.device)
            losses: dict[str, Tensor] = {}
            for number, name in enumerate(names):
                timesteps_B = torch.full_like(noisy.timesteps_B, number * width + width // 2)
                with trainer.autocast:
                    losses[name] = trainer.module(noisy._replace(timesteps_B=timesteps_B)).loss.double()
            return Measured(losses, sum(batch.frames))

        means = validation_means(
            lambda positions: task.batch_of(examples, positions, VALIDATION_SEED),
            measure,
            num_clips=min(len(held_out), self.config.run.validation_clips),
            batch_size=trainer.config.micro_batch_size or VALIDATION_BATCH,
            say=say,
        )
        return {"validation_loss": sum(means.values()) / NUM_BINS, **means} if means else {}

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
        """Return sounds generated from the prompts, or else from the first captions of the data."""
        config = self.config.task
        prompts = config.prompts or self._captions(held_out if len(held_out) else self._clips)
        prompts = prompts[: self.config.run.num_samples]
        with trainer.autocast:
            made = self.model.generate(
                prompts,
                min(config.sample_seconds, self.model.config.max_seconds),
                num_steps=config.sample_steps,
                guidance_scale=config.guidance_scale,
            )
        return list(zip(prompts, made, strict=True))

    def _captions(self, clips: Manifest) -> tuple[str, ...]:
        count = min(len(clips), self.config.run.num_samples)
        return tuple(clips[number].captions[0] for number in range(count))

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)

    def about(self) -> str:
        return f", of size {self.model.config.size}; latents are scaled by {float(self.model.scale_factor):.4g}"
