"""The training of GenAu (paper, sections 3.3, 4.2 and D.2). What any training has is in `run`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.checks import check_latents, check_rates, latent_sets, scale_factor
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples
from autorecap.dataset.reading.manifest import DataConfig, Manifest
from autorecap.models.genau.audio import MEL
from autorecap.models.genau.model import GenAu
from autorecap.training import run
from autorecap.training.genau.task import GenAuTask, GenAuTaskConfig
from autorecap.training.generator_inputs import open_generator
from autorecap.training.loop.processes import Ranks
from autorecap.training.loop.trainer import LoopConfig, Trainer
from autorecap.training.run import Outcome, Recipe, RunConfig, RunError, Say

_PLAIN = ExamplesConfig(mix_p=0.0, drop_title_p=1.0, drop_video_caption_p=1.0)  # titles are not asked for, nor read
NUM_BINS = 10  # of timesteps, in validation
FIXED_SEED = 0  # of the noise in validation, whatever the run's


@dataclass(frozen=True, kw_only=True)
class GenAuTraining(Section, name=""):
    """Everything that a training of GenAu can be told."""

    task: GenAuTaskConfig = setting(GenAuTaskConfig, "what is learned, from what")
    examples: ExamplesConfig = setting(_PLAIN, "how examples are drawn from clips")
    data: DataConfig = setting(DataConfig, "how the data is read")
    loop: LoopConfig = setting(LoopConfig, "steps, optimiser, schedule")
    run: RunConfig = setting(RunConfig, "checkpoints, validation, samples")


def train_genau(config: GenAuTraining, data: Sequence[str], out: str | Path, **options: Any) -> Outcome:
    """Train the generator; see `run.train`. `init`: folder or hub id, or the size of a new one."""
    return run.train(GenAuRecipe(config), data, out, **options)


class GenAuRecipe(Recipe):
    """Of the generator."""

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

    def task(self, clips: Manifest, loop: LoopConfig, device: torch.device, who: Ranks, resumed: bool) -> GenAuTask:
        config, model = self.config, self.model
        model.config.dataset_id(config.task.dataset)
        model.to(device)
        seconds = model.config.max_seconds
        examples = ClipExamples(clips, config.examples, seconds, loop.seed, config.data.window)
        encoded = latent_sets(clips)
        if encoded and config.examples.mix_p:
            raise RunError("examples.mix_p is not 0: latents cannot be mixed. Name the audio, or set it to 0")
        task = GenAuTask(model, examples, config.task, loop.seed)
        if not resumed:  # else it is in the checkpoint
            found = scale_factor(encoded) if encoded else self._measure(task, clips, device) if who.first else 0.0
            model.scale_factor.fill_(who.agree(found))
        self._clips = clips
        model.config = replace(model.config, default_dataset=self._main_style(clips))
        return task

    def _main_style(self, clips: Manifest) -> str:
        """That of most of the data."""
        turns: dict[str, Any] = {}
        for each, share in zip(clips.sets, clips.shares, strict=True):
            style = each.name if each.name in self.model.config.datasets else self.config.task.dataset
            turns[style] = turns.get(style, 0) + share
        return max(turns, key=turns.__getitem__)

    def notes(self, clips: Manifest) -> list[str]:
        """Of names that somebody gave to a set, and the model does not know: its default style is learned then."""
        styles, default = self.model.config.datasets, self.config.task.dataset
        return [
            f"the model knows no style {name!r}, only {', '.join(styles)}: what has that name is learned as "
            f"{default!r}, as task.dataset says"
            for name in sorted(set(clips.given_names) - set(styles))
        ]

    @torch.no_grad()
    def _measure(self, task: GenAuTask, clips: Manifest, device: torch.device) -> float:
        """What brings latents to unit variance, of clips from all over the data."""
        count = min(len(clips), self.config.task.scale_clips)
        examples = PlainExamples(clips, self.model.config.max_seconds)
        sums, unreadable = torch.zeros(3, dtype=torch.float64), list[str]()
        for number in range(count):
            batch = task.batch_of(examples, [number * len(clips) // count], FIXED_SEED)
            unreadable += batch.unreadable
            if batch.names:
                mean_CT, logvar_CT = (x[0, :, : batch.frames[0]].double() for x in task.posterior(batch, device))
                squares = (mean_CT.square() + logvar_CT.exp()).sum()
                sums += torch.stack([torch.tensor(float(mean_CT.numel())), mean_CT.sum().cpu(), squares.cpu()])
        values, total, squares_all = sums.tolist()
        if not values:
            raise RunError(f"of {count} clips tried none can be read, the first: {unreadable[0]}")
        variance = squares_all / values - (total / values) ** 2
        if not 0 < variance < float("inf"):
            raise RunError(f"the VAE's latents of {count} clips have a variance of {variance}: is the VAE trained?")
        return float(variance**-0.5)

    def validate(self, trainer: Trainer, held_out: Manifest, say: Say) -> dict[str, float]:
        """The loss at fixed noise, at the middle of every tenth of the timesteps, and its mean."""
        task = trainer.task
        assert isinstance(task, GenAuTask)
        examples = PlainExamples(held_out, self.model.config.max_seconds)
        num_clips = min(len(held_out), self.config.run.validation_clips)
        at_once = min(num_clips, trainer.config.micro_batch_size or 32)
        width = self.model.config.diffusion.num_timesteps // NUM_BINS
        losses = torch.zeros(NUM_BINS, dtype=torch.float64, device=trainer.device)
        weight = 0
        for first in range(0, num_clips, at_once):
            positions = range(first, min(first + at_once, num_clips))
            batch = task.batch_of(examples, positions, FIXED_SEED)
            for what in batch.unreadable:
                say(f"validation: left out, as it cannot be read: {what}")
            if not batch.names:
                continue
            kept = task.to(batch._replace(dropped_B=torch.zeros_like(batch.dropped_B)), trainer.device)
            weight += sum(batch.frames)
            for number in range(NUM_BINS):
                timesteps_B = torch.full_like(kept.timesteps_B, number * width + width // 2)
                with trainer.autocast:
                    scored = trainer.module(kept._replace(timesteps_B=timesteps_B))
                losses[number] += scored.loss.double() * scored.weight
        if not weight:
            return {}
        means = (losses / weight).tolist()
        bins = {f"validation_loss_t{i * width}_{(i + 1) * width - 1}": mean for i, mean in enumerate(means)}
        return {"validation_loss": sum(means) / NUM_BINS, **bins}

    def sample(self, trainer: Trainer, held_out: Manifest) -> list[tuple[Any, Tensor]]:
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
