"""What the trainings of VAE, vocoder and GenAu have in common: the model they are parts of, and clips as it hears them.

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
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.pretrained import CLAP_FOLDER, T5_FOLDER
from autorecap.models.genau.recipe import SIZES
from autorecap.models.genau.text.conditioning import TextEncoders
from autorecap.training.recipe import RunError


def open_generator(init: str, t5: str = "", clap: str = "", with_text: bool = True) -> GenAu:
    """The GenAu of a folder or hub id, or a new one of a size. Raises RunError and ModelFilesError.

    `with_text=False` needs no text encoders; those that lie in the model's folder are kept all the same.
    """
    if not init:
        raise RunError(
            "say where to start from: --init FOLDER or a hub id of a GenAu, or the size of a new one: "
            + ", ".join(SIZES)
        )
    if init not in SIZES:
        with_text = with_text or any(Path(init, name).is_dir() for name in (T5_FOLDER, CLAP_FOLDER))
        return GenAu.from_pretrained(init, t5=t5 or None, clap=clap or None, with_text=with_text)
    if with_text and init != "demo" and not (t5 and clap):
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
class Read:
    """A clip that could be read."""

    position: int
    example: Example
    sound: Tensor | Latent
    """A waveform as the VAE hears it, a whole number of latent frames long; or what the VAE has made of it."""
    frames: int  # of the latent


def read(examples: Examples, positions: Sequence[int], max_frames: int) -> tuple[list[Read], tuple[str, ...]]:
    """The clips at these positions, and of those that cannot be read the names and reasons.

    A position without its clip stays empty: nothing takes its place.
    """
    found, unreadable = [], []
    for position in positions:
        try:
            example = examples(position)
            found.append(_read(position, example, max_frames))
        except UnreadableClipError as error:
            unreadable.append(str(error))
    return found, tuple(unreadable)


def _read(position: int, example: Example, max_frames: int) -> Read:
    loaded = example.load()
    if isinstance(loaded, Latent):
        return Read(position, example, loaded, loaded.mean_CT.shape[1])
    waveform, rate = loaded
    try:
        x_S = to_mono(waveform)
        frames = min(latent_frames(len(x_S) / rate), max_frames)
        return Read(position, example, prepare_clip(x_S, rate, num_samples=frames * SAMPLES_PER_LATENT), frames)
    except ValueError as error:
        raise UnreadableClipError(f"{example.name}: {error}") from error


def padded(waveforms: Sequence[Tensor], num_samples: int) -> Tensor:
    """Waveforms with silence behind them. shape (B, S)"""
    x_BS = torch.zeros(len(waveforms), num_samples)
    for i, x_S in enumerate(waveforms):
        x_BS[i, : len(x_S)] = x_S
    return x_BS


def log_mels(x_BS: Tensor, num_samples: Sequence[int]) -> Tensor:
    """Log-mels, each as its clip alone would have it, with anything behind its end. shape (B, M, T)"""
    if len(set(num_samples)) == 1 and num_samples[0] == x_BS.shape[1]:
        return log_mel(x_BS)
    mel_BMT = log_mel(x_BS)
    for i, length in enumerate(num_samples):
        if length < x_BS.shape[1]:
            mel_BMT[i, :, : length // MEL.hop] = log_mel(x_BS[i : i + 1, :length])[0]
    return mel_BMT
