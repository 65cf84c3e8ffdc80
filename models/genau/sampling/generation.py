"""How prompts become sounds: the sounds to be made, in batches, through sampler and decoder.

Shape suffixes: B batch, C channels of the latent, T latent frames, S samples.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from autorecap.models.genau.audio import MEL, OUTPUT_PEAK, latent_frames, latent_mask, scale_to_peak
from autorecap.models.genau.config import FitConfig
from autorecap.models.genau.recipe import GenAuConfig
from autorecap.models.genau.sampling.guidance import Guided, Noise, Take, check_scale
from autorecap.models.genau.sampling.samplers import DDIM, check_sampler, sample

if TYPE_CHECKING:
    from autorecap.models.genau.model import GenAu

Scorer = Callable[[Sequence[Tensor], Sequence[str]], list[float]]
"""How well each of several waveforms at 16 kHz fits its text: `autorecap.models.genau.sampling.ranking.ClapScorer`."""

Progress = Callable[[int, int], None]

SILENT_PEAK = 1e-3  # -60 dB of full scale: what never gets louder is left alone, and not turned into hiss


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """How to generate. The defaults of the sampler are those of the released model's script."""

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


class _Sound(NamedTuple):
    """One of the sounds to be made."""

    prompt: int  # its index
    take: Take
    num_samples: int
    num_frames: int  # of its latent that are sound


class Plan(NamedTuple):
    """What a call of `generate` will make."""

    texts: list[str]
    sounds: list[_Sound]  # every candidate of every prompt, in this order
    config: GenerateConfig
    scorer: Scorer | None


def plan(
    model: GenAuConfig,
    prompts: Sequence[str],
    seconds: float | Sequence[float],
    config: GenerateConfig,
    scorer: Scorer | None = None,
) -> Plan:
    """What is to be made by a model of this config. Needs no weights: finds what is wrong before they are read.

    Raises ValueError that names the argument.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"prompt {i} is a {type(text).__name__}: write a text, or an empty one")
    check_sampler(config.sampler, config.num_steps, config.eta, model.diffusion.num_timesteps)
    config = replace(config, dataset=config.dataset or model.default_dataset)
    model.dataset_id(config.dataset)
    if config.num_candidates > 1 and scorer is None:
        raise ValueError(f"num_candidates is {config.num_candidates}, but there is no scorer to choose among them")
    return Plan(texts, _sounds(model, texts, _each(seconds, len(texts)), config), config, scorer)


def stream(model: "GenAu", planned: Plan, progress: Progress | None = None) -> Iterator[Tensor]:
    """`GenAu.generate`, one waveform after the other as they get ready."""
    waveforms = _waveforms(model, planned.sounds, planned.config, progress)
    for text in planned.texts:
        candidates = list(islice(waveforms, planned.config.num_candidates))
        if planned.scorer is None or len(candidates) == 1:
            yield candidates[0]
        else:
            scores = planned.scorer(candidates, [text] * len(candidates))
            yield candidates[scores.index(max(scores))]


def _each(seconds: float | Sequence[float], number: int) -> list[float]:
    if isinstance(seconds, int | float | Real):  # `Real`: numpy's numbers, too
        return [float(seconds)] * number
    if len(seconds) != number:
        raise ValueError(f"seconds: {len(seconds)} durations for {number} prompts: one for all, or one each")
    return [float(value) for value in seconds]


def _sounds(model: GenAuConfig, texts: list[str], seconds: list[float], config: GenerateConfig) -> list[_Sound]:
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
            sounds.append(_Sound(i, take, num_samples, frames))
    return sounds


def _waveforms(
    model: "GenAu", sounds: list[_Sound], config: GenerateConfig, progress: Progress | None
) -> Iterator[Tensor]:
    """Every sound, in order, batch by batch."""
    batches = [sounds[i : i + config.batch_size] for i in range(0, len(sounds), config.batch_size)]
    total = len(batches) * config.num_steps
    for number, batch in enumerate(batches):
        steps = count(number * config.num_steps + 1)

        def step(steps: Iterator[int] = steps) -> None:
            done = next(steps)
            if progress is not None:
                progress(done, total)

        with _evaluating(model), torch.inference_mode():
            latents_BCT = _latents(model, batch, config, step)
            waveforms = [_waveform(model, latents_BCT[i], sound, config) for i, sound in enumerate(batch)]
        yield from (x_S.clone() for x_S in waveforms)  # out of inference mode: may be changed, and trained on


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Everything in eval mode, and then each part as it was: a trainer may have the backbone alone in training."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _latents(model: "GenAu", batch: list[_Sound], config: GenerateConfig, step: Callable[[], None]) -> Tensor:
    """What the backbone makes of noise. shape (B, C, T), zeros behind each sound's end"""
    frames = [sound.num_frames for sound in batch]
    multiple = model.backbone.frames_multiple
    length = math.ceil(max(frames) / multiple) * multiple
    guided = Guided(
        model.backbone,
        model.condition([sound.take.prompt for sound in batch], [config.dataset] * len(batch)),
        model.unconditional(),
        config.guidance_scale,
        mask_BT=None if min(frames) == length else latent_mask(frames, length),
        remember=isinstance(model.config.backbone, FitConfig) and model.config.backbone.self_conditioning,
    )
    noise = Noise([sound.take for sound in batch], frames, model.config.vae.channels, length)

    def denoise(x_BCT: Tensor, timesteps_B: Tensor) -> Tensor:
        output_BCT = guided(x_BCT, timesteps_B)
        step()
        return output_BCT

    x_BCT = noise.draw(model.device)
    options = {"eta": config.eta, "draw": lambda: noise.draw(model.device)} if config.sampler == DDIM else {}
    return sample(config.sampler, denoise, x_BCT, model.diffusion, config.num_steps, **options)


def _waveform(model: "GenAu", latent_CT: Tensor, sound: _Sound, config: GenerateConfig) -> Tensor:
    """One sound, decoded, cut and scaled. fp32 on the CPU, shape (S,)"""
    try:
        if not bool(torch.isfinite(latent_CT).all()):
            raise ValueError("the latent holds NaN or infinity")
        x_S = model.decode(latent_CT[:, : sound.num_frames])[: sound.num_samples].float().cpu()
    except ValueError as error:
        raise ValueError(
            f"prompt {sound.prompt}: {error}. Try fp32, another sampler or more steps, or a smaller guidance_scale"
        ) from None
    if config.peak is None or float(x_S.abs().max()) < SILENT_PEAK:
        return x_S
    return scale_to_peak(x_S, config.peak)
