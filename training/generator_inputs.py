"""Inputs of the trainings of VAE, vocoder and GenAu: the GenAu that all are parts of, and clips as it hears them.

Shape suffixes: B batch, S samples, M mel bands, T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from autorecap.dataset.reading.clips import Latent, UnreadableClipError
from autorecap.dataset.reading.examples import Example, Examples
from autorecap.models.audio import to_mono
from autorecap.models.genau.audio import MEL, SAMPLES_PER_LATENT, latent_frames, log_mel, prepare_clip
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.pretrained import CLAP_FOLDER, T5_FOLDER
from autorecap.models.genau.text.conditioning import TextEncoders
from autorecap.training.recipe import RunError


def open_generator(init: str, t5: str = "", clap: str = "", with_text: bool = True) -> GenAu:
    """Return the GenAu of a folder or hub id, or a new one of a size. Raises RunError and ModelFilesError.

    t5, clap: text encoders, if they are not in the model's folder
    with_text: if False, no text encoders are needed; those in the model's folder are loaded all the same
    """
    if not init:
        raise RunError(
            "--init is missing: name the GenAu to start from by a folder or a hub id, or the size of a new one: "
            f"{', '.join(SIZES)}"
        )
    if init not in SIZES:
        with_text = with_text or any(Path(init, name).is_dir() for name in (T5_FOLDER, CLAP_FOLDER))
        return GenAu.from_pretrained(init, t5=t5 or None, clap=clap or None, with_text=with_text)
    if with_text and not SIZES[init].has_small_text and not (t5 and clap):
        raise RunError(
            f"a new GenAu of size {init} needs text encoders: --set task.t5=google/flan-t5-large and --set "
            "task.clap=FOLDER, or folders of both"
        )
    model = GenAu.new(init)
    if with_text and model.text is None:
        model.text = TextEncoders.from_pretrained(model.config.text, t5=t5, clap=clap)
        model.text.check_widths(model.config.backbone.context)
    return model


@dataclass(frozen=True)
class LoadedClip:
    """A clip at a position, with its sound in memory."""

    position: int
    example: Example
    sound: Tensor | Latent
    """A waveform as the VAE takes it, a whole number of latent frames long; or its latent."""
    frames: int  # length of the latent


def load_clips(
    examples: Examples, positions: Sequence[int], max_frames: int
) -> tuple[list[LoadedClip], tuple[str, ...]]:
    """Return the clips at these positions, and the names and reasons of those that cannot be read.

    An unreadable clip is left out: no other clip takes its place.
    """
    clips, unreadable = [], []
    for position in positions:
        try:
            example = examples(position)
            clips.append(_load(position, example, max_frames))
        except UnreadableClipError as error:
            unreadable.append(str(error))
    return clips, tuple(unreadable)


def _load(position: int, example: Example, max_frames: int) -> LoadedClip:
    sound = example.load()
    if isinstance(sound, Latent):
        return LoadedClip(position, example, sound, sound.mean_CT.shape[1])
    waveform, rate = sound
    try:
        x_S = to_mono(waveform)
        frames = min(latent_frames(len(x_S) / rate), max_frames)
        x_S = prepare_clip(x_S, rate, num_samples=frames * SAMPLES_PER_LATENT)
    except ValueError as error:
        raise UnreadableClipError(f"{example.name}: {error}") from error
    return LoadedClip(position, example, x_S, frames)


def padded(waveforms: Sequence[Tensor], num_samples: int) -> Tensor:
    """Return waveforms with silence behind their ends. shape (B, S)"""
    x_BS = torch.zeros(len(waveforms), num_samples)
    for i, x_S in enumerate(waveforms):
        x_BS[i, : len(x_S)] = x_S
    return x_BS


def log_mels(x_BS: Tensor, num_samples: Sequence[int]) -> Tensor:
    """Return log-mels, each as if its clip were alone; behind its end are undefined values. shape (B, M, T)"""
    if len(set(num_samples)) == 1 and num_samples[0] == x_BS.shape[1]:
        return log_mel(x_BS)
    mel_BMT = log_mel(x_BS)
    for i, length in enumerate(num_samples):
        if length < x_BS.shape[1]:
            mel_BMT[i, :, : length // MEL.hop] = log_mel(x_BS[i : i + 1, :length])[0]
    return mel_BMT
