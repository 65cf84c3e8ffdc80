"""Refuses data before the first step: clips that hold less than a model hears, latents of another model."""

from collections.abc import Sequence

import numpy as np

from autorecap.dataset.log import CLIPS, LATENTS
from autorecap.dataset.reading.clips import DataError
from autorecap.dataset.reading.dataset_clips import StoredClips
from autorecap.dataset.reading.manifest import Manifest
from autorecap.models.genau.audio import LATENTS_PER_S


def check_rates(manifest: Manifest, rate_hz: int) -> None:
    """Refuse datasets at a lower sample rate than the model hears. Raises DataError."""
    for clips in manifest.sets:
        if isinstance(clips, StoredClips) and clips.kind == CLIPS and clips.rates_hz[0] < rate_hz:
            raise DataError(
                f"{clips.url} has clips at {clips.rates_hz[0]:,} Hz, and the model hears {rate_hz:,} Hz: build it with "
                f"media.sample_rate_hz={rate_hz} or more, or leave them out by --where 'sample_rate_hz >= {rate_hz}'"
            )


def check_audio(manifest: Manifest) -> None:
    """Refuse latents, for a model that learns from audio. Raises DataError."""
    for clips in latent_sets(manifest)[:1]:
        raise DataError(f"{clips.url} holds latents, and this model learns from audio: name the dataset of the clips")


def latent_sets(manifest: Manifest) -> list[StoredClips]:
    """Return the sets that hold latents: all, or none. Raises DataError where some are latents and some is audio."""
    encoded = [clips for clips in manifest.sets if isinstance(clips, StoredClips) and clips.kind == LATENTS]
    if encoded and len(encoded) < len(manifest.sets):
        raise DataError("some of the data are latents and some is audio: encode all of it, or name the audio of all")
    return encoded


def check_latents(manifest: Manifest, *, vae: str, text: str = "", max_frames: int = 0) -> None:
    """Refuse latents that another VAE made, or other text encoders. Raises DataError.

    Their numbers would mean something else to the model. `vae` and `text`: digests, see `models.files.digest`; text "":
    any encoders. `max_frames`: the longest piece that the model can make; 0: any.
    """
    for clips in latent_sets(manifest):
        made = clips.settings
        again = f"encode it again: autorecap encode --data {made.get('data', 'DATASET')} --model MODEL --out DIR"
        if made["vae"] != vae:
            raise DataError(
                f"{clips.url} holds latents of another VAE ({made['vae'][:12]}, the model's is {vae[:12]}): {again}"
            )
        if text and made["text"] and made["text"] != text:
            raise DataError(
                f"{clips.url} holds texts of other encoders ({made['text'][:12]}, the model's are {text[:12]}): {again}"
            )
        if max_frames and made["piece_frames"] > max_frames:
            raise DataError(
                f"{clips.url} holds pieces of {made['piece_frames']} latent frames, more than the {max_frames} that "
                f"the model can make: {again} --max-seconds {max_frames / LATENTS_PER_S:g}"
            )


def scale_factor(sets: Sequence[StoredClips]) -> float:
    """Return the factor that brings the latents of these sets, taken together, to unit variance. Raises DataError."""
    count, total, squares = np.sum([clips.sums for clips in sets], axis=0).tolist()
    return unit_scale(count, total, squares, f"the latents in {sets[0].url}")


def unit_scale(count: float, total: float, squares: float, what: str) -> float:
    """Return the factor that brings numbers to unit variance, from their count, their sum and the sum of their squares.

    `what`: the numbers, for the message. Raises DataError where there is no such factor.
    """
    variance = squares / count - (total / count) ** 2
    if not 0 < variance < np.inf:
        raise DataError(f"{what} have the variance {variance}: the VAE that made them is broken, or not trained yet")
    return float(variance**-0.5)
