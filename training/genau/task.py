"""Training task of GenAu: turns clips into noisy latents and conditions, and computes the error of the predicted noise
(paper, sections 3.3, 4.2 and D.2).

Clips come as audio, which the frozen VAE and text encoders turn into latents and vectors on the device, or as latents
that were encoded before (`autorecap encode`). Clips keep their lengths: padding is masked and has no weight.

Shape suffixes: B batch, C channels, T latent frames, S samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autorecap.base.settings import MODEL, Section, setting
from autorecap.dataset.reading.clips import Latent
from autorecap.dataset.reading.examples import Examples
from autorecap.dataset.reading.random_draws import TrainingDraw, torch_generator
from autorecap.models.genau.audio import SAMPLES_PER_LATENT, latent_mask
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.flops import flops
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.sampling.diffusion import pad_latents
from autorecap.models.genau.text.conditioning import Condition, drop
from autorecap.training.generator_inputs import load_clips, log_mels, padded
from autorecap.training.loop.task import Scored


@dataclass(frozen=True, kw_only=True)
class GenAuTaskConfig(Section, name="task"):
    """Settings of the generator's task: conditions, text encoders, memory, and the samples made on the way."""

    drop_condition_p: float = setting(
        0.1, "Share of clips that lose all their conditions, for guidance.", results=True, ge=0, le=1
    )
    dataset: str = setting("autocap", "Style of clips whose set's name is none of the model's styles.", results=True)
    scale_clips: int = setting(
        1_024,
        "Clips of audio on which the scale of latents is measured. Encoded latents are all used.",
        results=True,
        ge=1,
    )
    checkpoint_activations: bool = setting(
        False, "Compute blocks again in the backward pass: less memory, 4/3 of the work."
    )
    t5: str = setting("", "FLAN-T5, a folder or hub id, if it is not in the model's own folder.", path=MODEL)
    clap: str = setting(
        "", "CLAP's text branch, a folder or hub id, if it is not in the model's own folder.", path=MODEL
    )
    prompts: tuple[str, ...] = setting((), "Prompts of the samples; none: the first captions of the data.")
    sample_seconds: float = setting(10.0, "Length of the samples in seconds.", gt=0)
    sample_steps: int = setting(100, "Steps of the sampler.", ge=1)
    guidance_scale: float = setting(4.0, "Guidance scale of the samples: how much the prompt counts.", ge=0)


class ClipBatch(NamedTuple):
    """The clips of one micro-batch, on the CPU."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    captions: tuple[str, ...]
    dataset_ids_B: Tensor
    frames: tuple[int, ...]  # length of each latent
    sound: Tensor | tuple[Latent, ...]  # waveforms (B, S); or latents
    posterior_noise: tuple[Tensor, ...]  # each (C, T_i)
    noise: tuple[Tensor, ...]  # likewise
    timesteps_B: Tensor
    dropped_B: Tensor


class NoisyBatch(NamedTuple):
    """The same clips on the device, as latents and conditions."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    frames: tuple[int, ...]
    x0_BCT: Tensor  # not yet scaled
    noise_BCT: Tensor
    mask_BT: Tensor | None  # on the CPU
    timesteps_B: Tensor
    condition: Condition


class GenAuLoss(nn.Module):
    """The backbone with its loss: called with a batch, it returns the mean squared error of the noise."""

    def __init__(self, model: GenAu) -> None:
        super().__init__()
        self.backbone, self.diffusion = model.backbone, model.diffusion
        self.register_buffer("scale_factor", model.scale_factor)
        self.scale_factor: Tensor
        self.config = model.config.backbone

    def forward(self, batch: NoisyBatch) -> Scored:
        """Return the mean squared error over all values that are not padding."""
        x0_BCT = batch.x0_BCT * self.scale_factor
        noisy_BCT = self.diffusion.q_sample(x0_BCT, batch.noise_BCT, batch.timesteps_B)
        text, ids_B = batch.condition
        predicted = self.backbone(noisy_BCT, batch.timesteps_B, text, ids_B, batch.mask_BT)
        loss = self.diffusion.loss(predicted.eps, x0_BCT, batch.noise_BCT, batch.timesteps_B, batch.mask_BT)
        return Scored(loss, sum(batch.frames), {}, self._flops(batch))

    def _flops(self, batch: NoisyBatch) -> float:
        if not isinstance(self.config, FitConfig):
            return 0.0
        words = batch.condition.text.words_BNW
        num_words = 0 if words is None else words.shape[1]
        return float(sum(flops(self.config, frames=n, num_words=num_words, backward=True) for n in batch.frames))


class GenAuTask:
    """Task of the generator, for the loop."""

    def __init__(self, model: GenAu, examples: Examples, config: GenAuTaskConfig, seed: int = 0) -> None:
        self.model, self.examples, self.config, self.seed = model.requires_grad_(False).eval(), examples, config, seed
        model.backbone.requires_grad_(True).train()
        model.backbone.checkpoint_activations(config.checkpoint_activations)
        if isinstance(model.backbone, Fit) and model.backbone.self_conditioning is not None:
            model.backbone.self_conditioning.requires_grad_(False)  # training never passes its input
        self.module: nn.Module = GenAuLoss(model)
        blocks = list(model.backbone.blocks) if isinstance(model.backbone, Fit) else []
        self.units: Sequence[nn.Module] = [*blocks, model.backbone]

    def batch(self, positions: range) -> ClipBatch:
        """Return the clips at these positions, on the CPU. Unreadable ones are left out and named."""
        return self.batch_of(self.examples, positions, self.seed)

    def batch_of(self, examples: Examples, positions: Sequence[int], seed: int) -> ClipBatch:
        """Return a batch of another list of examples, drawn by another seed, such as those of validation."""
        config = self.model.config
        clips, unreadable = load_clips(examples, positions, config.backbone.max_frames)
        channels = config.backbone.channels

        def noise(purpose: TrainingDraw) -> tuple[Tensor, ...]:
            generators = [torch_generator(seed, purpose, clip.position) for clip in clips]
            return tuple(
                torch.randn(channels, clip.frames, generator=generator)
                for clip, generator in zip(clips, generators, strict=True)
            )

        timestep_generators = [torch_generator(seed, TrainingDraw.TIMESTEP, clip.position) for clip in clips]
        timesteps = [self.model.diffusion.draw_timesteps(1, generator) for generator in timestep_generators]
        drop_generators = [torch_generator(seed, TrainingDraw.DROPPED_CONDITION, clip.position) for clip in clips]
        dropped = [torch.rand(1, generator=each) < self.config.drop_condition_p for each in drop_generators]
        ids = [self.dataset_id(clip.example.dataset) for clip in clips]
        sounds = [clip.sound for clip in clips]
        latents = tuple(sound for sound in sounds if isinstance(sound, Latent))
        waves = [sound for sound in sounds if isinstance(sound, Tensor)]
        return ClipBatch(
            names=tuple(clip.example.name for clip in clips),
            unreadable=unreadable,
            captions=tuple(clip.example.caption for clip in clips),
            dataset_ids_B=torch.tensor(ids, dtype=torch.int64),
            frames=tuple(clip.frames for clip in clips),
            sound=latents or padded(waves, max((len(wave) for wave in waves), default=0)),
            posterior_noise=noise(TrainingDraw.POSTERIOR),
            noise=noise(TrainingDraw.NOISE),
            timesteps_B=torch.cat(timesteps) if timesteps else torch.zeros(0, dtype=torch.int64),
            dropped_B=torch.cat(dropped) if dropped else torch.zeros(0, dtype=torch.bool),
        )

    def dataset_id(self, name: str) -> int:
        """Return the style of a set of clips; that of `config.dataset` if its name is none of the model's styles."""
        known = name if name in self.model.config.datasets else self.config.dataset
        return self.model.config.dataset_id(known)

    @torch.no_grad()
    def to(self, batch: ClipBatch, device: torch.device) -> NoisyBatch:
        """Return the batch on a device, its sounds as latents and its texts as vectors."""
        multiple = self.model.config.frames_multiple
        mean_BCT, logvar_BCT = self.posterior(batch, device)
        posterior_BCT = pad_latents(batch.posterior_noise, multiple)[0].to(device, non_blocking=True)
        noise_BCT, mask_BT = pad_latents(batch.noise, multiple)
        x0_BCT = mean_BCT + (0.5 * logvar_BCT).exp() * posterior_BCT
        ids_B = batch.dataset_ids_B.to(device, non_blocking=True)
        condition = Condition(self._text(batch, device), ids_B)
        if bool(batch.dropped_B.any()):  # on the CPU: nothing waits for the device
            condition = drop(condition, self.model.unconditional(), batch.dropped_B)
        return NoisyBatch(
            names=batch.names,
            unreadable=batch.unreadable,
            frames=batch.frames,
            x0_BCT=x0_BCT,
            noise_BCT=noise_BCT.to(device, non_blocking=True),
            mask_BT=mask_BT,
            timesteps_B=batch.timesteps_B.to(device, non_blocking=True),
            condition=condition,
        )

    def posterior(self, batch: ClipBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return means and log-variances of the latents, padded as a backbone takes them. shape (B, C, T) each"""
        multiple = self.model.config.frames_multiple
        if not isinstance(batch.sound, Tensor):
            parts = [[torch.from_numpy(x).float() for x in latent[:2]] for latent in batch.sound]
            mean_BCT, logvar_BCT = (pad_latents([p[i] for p in parts], multiple)[0].to(device) for i in (0, 1))
            return mean_BCT, logvar_BCT
        lengths = [frames * SAMPLES_PER_LATENT for frames in batch.frames]
        mel_BMT = log_mels(batch.sound.to(device), lengths)
        mask_BN = latent_mask(batch.frames, max(batch.frames))
        posterior = self.model.vae.encode(mel_BMT, mask_BN)
        padding = (0, -max(batch.frames) % multiple)
        return nn.functional.pad(posterior.mean, padding), nn.functional.pad(posterior.logvar, padding)

    def _text(self, batch: ClipBatch, device: torch.device) -> Text:
        has_text_vectors = not isinstance(batch.sound, Tensor) and all(
            latent.summary_W is not None or latent.words_ND is not None for latent in batch.sound
        )
        if not has_text_vectors:
            encoders = self.model.text
            assert encoders is not None, "the recipe loads them"
            return encoders.encode(batch.captions)
        assert not isinstance(batch.sound, Tensor)
        summaries = [torch.from_numpy(each.summary_W).float() for each in batch.sound if each.summary_W is not None]
        words = [torch.from_numpy(each.words_ND).float() for each in batch.sound if each.words_ND is not None]
        summary_BW = torch.stack(summaries).to(device, non_blocking=True) if summaries else None
        if not words:
            return Text(summary_BW)
        counts = [len(each) for each in words]
        mask_BN = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        words_BND = nn.utils.rnn.pad_sequence(words, batch_first=True)
        return Text(summary_BW, words_BND.to(device, non_blocking=True), mask_BN.to(device, non_blocking=True))
