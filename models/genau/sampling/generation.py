"""Prompts become sounds: a plan says which, and they go in batches through sampler and decoder.

`GenAu.generate` calls what is here with its own modules.

Shape suffixes: B batch, C channels of the latent, T latent frames, S samples.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autorecap.models.genau.audio import MEL, OUTPUT_PEAK, latent_frames, latent_mask, scale_to_peak
from autorecap.models.genau.backbones.backbone import Backbone
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.sampling.guidance import Guided, Noise, Take, check_scale
from autorecap.models.genau.sampling.samplers import DDIM, check_sampler, sample
from autorecap.models.genau.text.conditioning import Condition

Scorer = Callable[[Sequence[Tensor], Sequence[str]], list[float]]
"""A scorer tells how well each of several waveforms at 16 kHz fits its text: `ClapScorer` of `ranking.py`, say."""

Progress = Callable[[int, int], None]

SILENT_PEAK = 1e-3  # -60 dB of full scale: what never gets louder is left alone, and not turned into hiss


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """A GenerateConfig says how to generate. The defaults of the sampler are those of the released model's script."""

    num_steps: int = 100  # calls of the backbone per sound
    guidance_scale: float = 4.0  # how much the text counts: 0 not at all, 1 without guidance
    seed: int = 0
    num_candidates: int = 1  # sounds per prompt, of which the scorer's favourite is kept
    dataset: str = ""  # whose style; "": the default of the model
    sampler: str = DDIM
    eta: float = 1.0  # noise on DDIM's way: 0 none, 1 as the released model
    peak: float | None = OUTPUT_PEAK  # every sound is scaled to it; None: as it comes
    batch_size: int = 8  # sounds at a time

    def __post_init__(self) -> None:
        check_scale(self.guidance_scale)
        for name in ("num_candidates", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: write 1 or more")
        if self.peak is not None and not 0 < self.peak <= 1:
            raise ValueError(f"peak is {self.peak}: write a share of full scale above 0 and up to 1, or None")


class Sound(NamedTuple):
    """A Sound is one of those to be made."""

    prompt: int  # its index
    take: Take
    num_samples: int
    num_frames: int  # of its latent that are sound


Make = Callable[[Sequence[Sound], Callable[[], None]], Sequence[Tensor]]
"""Makes the waveforms of a batch of sounds, and calls its second argument after each step of the sampler."""


class Plan(NamedTuple):
    """A plan says what a call of `generate` will make."""

    texts: list[str]
    sounds: list[Sound]  # every candidate of every prompt, in this order
    config: GenerateConfig
    scorer: Scorer | None


def plan(
    model: GenAuConfig,
    prompts: Sequence[str],
    seconds: float | Sequence[float],
    config: GenerateConfig,
    scorer: Scorer | None = None,
) -> Plan:
    """Plans what a model of this config is to make. It needs no weights: it finds what is wrong before they are read.

    Raises ValueError that names the argument.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"prompt {i} is a {type(text).__name__}: expected a text, which may be empty")
    check_sampler(config.sampler, config.num_steps, config.eta, model.diffusion.num_timesteps)
    config = replace(config, dataset=config.dataset or model.default_dataset)
    model.dataset_id(config.dataset)
    if config.num_candidates > 1 and scorer is None:
        raise ValueError(f"num_candidates is {config.num_candidates}, but there is no scorer to choose among them")
    return Plan(texts, _sounds(model, texts, _each(seconds, len(texts)), config), config, scorer)


def _each(seconds: float | Sequence[float], number: int) -> list[float]:
    if isinstance(seconds, int | float | Real):  # `Real`: numpy's numbers, too
        return [float(seconds)] * number
    if len(seconds) != number:
        raise ValueError(f"seconds: {len(seconds)} durations for {number} prompts: one for all, or one each")
    return [float(value) for value in seconds]


def _sounds(model: GenAuConfig, texts: list[str], seconds: list[float], config: GenerateConfig) -> list[Sound]:
    seen: Counter[str] = Counter()
    sounds = []
    multiple = 1 if model.exact_durations else model.frames_multiple
    for i, (text, duration) in enumerate(zip(texts, seconds, strict=True)):
        try:
            frames = latent_frames(duration, multiple)
        except ValueError as error:
            raise ValueError(f"prompt {i}: {error}") from None
        num_samples = max(1, round(duration * MEL.sample_rate_hz))
        if frames > model.backbone.max_frames:
            raise ValueError(
                f"prompt {i}: {duration:g} s, but this model makes sounds of up to {model.max_seconds:g} s: ask for "
                "less, or train one with more max_frames"
            )
        for _ in range(config.num_candidates):
            take = Take(text, config.seed, seen[text])
            seen[text] += 1
            sounds.append(Sound(i, take, num_samples, frames))
    return sounds


def stream(planned: Plan, make: Make, progress: Progress | None = None) -> Iterator[Tensor]:
    """Yields the planned waveforms, one for each prompt, as they get ready; of several candidates the best."""
    waveforms = _waveforms(planned, make, progress)
    for text in planned.texts:
        candidates = list(islice(waveforms, planned.config.num_candidates))
        if planned.scorer is None or len(candidates) == 1:
            yield candidates[0]
        else:
            scores = planned.scorer(candidates, [text] * len(candidates))
            yield candidates[scores.index(max(scores))]


def _waveforms(planned: Plan, make: Make, progress: Progress | None) -> Iterator[Tensor]:
    """Yields every sound, in order, batch by batch."""
    size, num_steps = planned.config.batch_size, planned.config.num_steps
    batches = [planned.sounds[i : i + size] for i in range(0, len(planned.sounds), size)]
    total = len(batches) * num_steps
    for number, batch in enumerate(batches):
        steps = count(number * num_steps + 1)

        def step(steps: Iterator[int] = steps) -> None:
            done = next(steps)
            if progress is not None:
                progress(done, total)

        yield from (x_S.clone() for x_S in make(batch, step))  # out of inference mode: may be changed, and trained on


# --- one batch


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts everything in eval mode, and afterwards each part as it was: a trainer may train the backbone alone."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def sample_latents(
    backbone: Backbone,
    diffusion: Diffusion,
    condition: Condition,
    unconditional: Condition,
    sounds: Sequence[Sound],
    config: GenerateConfig,
    step: Callable[[], None],
) -> Tensor:
    """Samples the latents of a batch of sounds. shape (B, C, T), zeros behind each sound's end

    `condition`: of each sound. `unconditional`: a batch of one. `step` is called after each step of the sampler.
    """
    frames = [sound.num_frames for sound in sounds]
    multiple = backbone.frames_multiple
    length = math.ceil(max(frames) / multiple) * multiple
    guided = Guided(
        backbone,
        condition,
        unconditional,
        config.guidance_scale,
        mask_BT=None if min(frames) == length else latent_mask(frames, length),
        remember=backbone.takes_latents,
    )
    noise = Noise([sound.take for sound in sounds], frames, backbone.channels, length)
    device = condition.dataset_ids_B.device

    def denoise(x_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        output_BCT = guided(x_BCT, timesteps_B)
        step()
        return output_BCT

    options = {"eta": config.eta, "draw": lambda: noise.draw(device)} if config.sampler == DDIM else {}
    return sample(config.sampler, denoise, noise.draw(device), diffusion, config.num_steps, **options)


def finish(latent_CT: Tensor, decode: Callable[[Tensor], Tensor], sound: Sound, config: GenerateConfig) -> Tensor:
    """Returns the waveform of one sound: decoded, cut and scaled. fp32 on the CPU, shape (S,)

    `decode`: makes a waveform of a latent. Raises ValueError that names the prompt where there is NaN in either.
    """
    try:
        if not bool(torch.isfinite(latent_CT).all()):
            raise ValueError("the latent holds NaN or infinity")
        x_S = decode(latent_CT[:, : sound.num_frames])[: sound.num_samples].float().cpu()
    except ValueError as error:
        raise ValueError(
            f"prompt {sound.prompt}: {error}. Try fp32, another sampler or more steps, or less guidance"
        ) from None
    if config.peak is None or float(x_S.abs().max()) < SILENT_PEAK:
        return x_S
    return scale_to_peak(x_S, config.peak)
