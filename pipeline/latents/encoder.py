"""Encodes clips as latents, and their captions as text vectors: what `autorecap encode` stores.

Shape suffixes: B batch, C channels, M mel bands, T frames, N latent frames, S samples, W width.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from autorecap.base.settings import Section, setting
from autorecap.dataset.latent_samples import DTYPES
from autorecap.dataset.reading.clips import Clip, DataError, Latent, UnreadableClipError
from autorecap.dataset.store import StoreError
from autorecap.models import files
from autorecap.models.audio import to_mono
from autorecap.models.files import CONFIG, ModelFilesError
from autorecap.models.genau import pretrained
from autorecap.models.genau.audio import (
    FRAMES_PER_LATENT,
    LATENTS_PER_S,
    SAMPLES_PER_LATENT,
    SILENCE,
    latent_frames,
    latent_mask,
    log_mel,
    prepare_clip,
)
from autorecap.models.genau.text.conditioning import TextEncoders
from autorecap.models.genau.vae.model import GENERATOR_FORMAT, VAE

SHORTEST_S = 1.0  # of the last piece of a long clip; a shorter rest is left out


@dataclass(frozen=True, kw_only=True)
class EncodeConfig(Section, name="encode"):
    """How clips become latents."""

    max_seconds: float = setting(
        10.24,
        "Longer clips are encoded in pieces of this length, as the generator will hear them.",
        results=True,
        ge=1,
        le=600,
    )
    dtype: str = setting("fp16", "Of the stored numbers: fp16 or fp32.", results=True, choices=DTYPES)
    with_text: bool = setting(True, "Captions as well, where the model has text encoders.", results=True)
    batch_size: int = setting(16, "Pieces at a time.", ge=1)
    threads: int = setting(2, "Threads that decode.", ge=1)

    @property
    def piece_frames(self) -> int:
        return latent_frames(self.max_seconds)


class Encoder:
    """VAE and text encoders: called with clips, yields for each its arrays in fp32, or why it cannot be read."""

    def __init__(self, vae: VAE, text: TextEncoders | None, config: EncodeConfig, device: str) -> None:
        self.vae, self.text = vae.to(device).eval(), text.to(device).eval() if text else None
        self.config, self.device = config, device
        self.piece_s = config.piece_frames / LATENTS_PER_S

    @classmethod
    def load(
        cls, model: str | Path, config: EncodeConfig, device: str, t5: str | Path | None, clap: str | Path | None
    ) -> "Encoder":
        """Load the models of a GenAu, or a VAE alone. Raises DataError where that cannot be done."""
        try:
            vae, text = VAE.from_pretrained(model), None
            folder = files.find(model, (CONFIG,))
            if files.format_of(folder / CONFIG) == GENERATOR_FORMAT:
                generator = pretrained.read_config(folder / CONFIG)
                if config.max_seconds > generator.max_seconds:
                    raise DataError(
                        f"--max-seconds {config.max_seconds:g}: {model} makes {generator.max_seconds:g} s at most, and "
                        "could not be trained on longer pieces"
                    )
                text = pretrained.load_text(model, generator, t5, clap) if config.with_text else None
        except ModelFilesError as error:
            raise DataError(str(error)) from error
        return cls(vae, text, config, device)

    def __call__(self, clips: Sequence[Clip]) -> Iterator["dict[str, NDArray[Any]] | UnreadableClipError"]:
        with ThreadPoolExecutor(self.config.threads) as pool:
            starts = range(0, len(clips), self.config.batch_size)
            ahead: list[Future[Any]] = []
            for start in starts:
                batch = ahead or self._submit(pool, clips, start)
                ahead = self._submit(pool, clips, start + self.config.batch_size)
                decoded = [future.result() for future in batch]
                yield from self._encode(clips[start : start + self.config.batch_size], decoded)

    def _submit(self, pool: ThreadPoolExecutor, clips: Sequence[Clip], start: int) -> list[Future[Any]]:
        return [pool.submit(self._pieces, clip) for clip in clips[start : start + self.config.batch_size]]

    def _pieces(self, clip: Clip) -> "list[Tensor] | UnreadableClipError":
        """Return the log-mels of a clip's pieces, each of shape (M, T); or why the clip cannot be read."""
        try:
            sound = clip.load(math.inf, 0.0)
            assert not isinstance(sound, Latent)
            waveform, rate = sound
            x_S = to_mono(waveform)
            if not len(x_S):
                raise ValueError("no samples in it")
            cuts = [round(i * self.piece_s * rate) for i in range(math.ceil(len(x_S) / rate / self.piece_s) + 1)]
            parts = [x_S[start:end] for start, end in pairwise(cuts)]
            parts = [part for i, part in enumerate(parts) if not i or len(part) >= SHORTEST_S * rate]
            return [self._mel(part, rate) for part in parts]
        except ValueError as error:
            return UnreadableClipError(f"{clip.name}: {error}")
        except UnreadableClipError as error:
            if isinstance(error.__cause__, StoreError):  # not of this clip, and it may pass
                raise error.__cause__ from error
            return error

    def _mel(self, x_S: Tensor, rate: int) -> Tensor:
        frames = min(latent_frames(len(x_S) / rate), self.config.piece_frames)
        return log_mel(prepare_clip(x_S, rate, num_samples=frames * SAMPLES_PER_LATENT)[None])[0]

    @torch.no_grad()
    def _encode(
        self, clips: Sequence[Clip], decoded: Sequence["list[Tensor] | UnreadableClipError"]
    ) -> Iterator["dict[str, NDArray[Any]] | UnreadableClipError"]:
        readable = [clip for clip, mels in zip(clips, decoded, strict=True) if isinstance(mels, list)]
        texts = iter(self._texts([clip.captions[0] for clip in readable]))
        pieces = [mel for mels in decoded if isinstance(mels, list) for mel in mels]
        latents = iter(self._latents(pieces))
        for mels in decoded:
            if isinstance(mels, UnreadableClipError):
                yield mels
                continue
            own = [next(latents) for _ in mels]
            mean, logvar = (np.concatenate(parts, axis=1) for parts in zip(*own, strict=True))
            yield {"mean": mean, "logvar": logvar, **next(texts)}

    def _latents(self, mels: Sequence[Tensor]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield mean and log-variance of each piece, (C, T) both."""
        for first in range(0, len(mels), self.config.batch_size):
            some = mels[first : first + self.config.batch_size]
            counts = [mel.shape[1] // FRAMES_PER_LATENT for mel in some]
            longest = max(mel.shape[1] for mel in some)
            mel_BMT = torch.stack([F.pad(mel, (0, longest - mel.shape[1]), value=SILENCE) for mel in some])
            posterior = self.vae.encode(mel_BMT.to(self.device), latent_mask(counts, max(counts)))
            mean_BCN, logvar_BCN = posterior.mean.cpu().numpy(), posterior.logvar.cpu().numpy()
            yield from ((mean_BCN[i, :, :n], logvar_BCN[i, :, :n]) for i, n in enumerate(counts))

    def _texts(self, captions: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
        """Return what the text encoders make of each caption."""
        if self.text is None or not captions:
            return [{} for _ in captions]
        text = self.text.encode(captions)
        made: list[dict[str, NDArray[Any]]] = []
        for i in range(len(captions)):
            one = {}
            if text.summary_BW is not None:
                one["summary"] = text.summary_BW[i].cpu().numpy()
            if text.words_BNW is not None:
                words = text.words_BNW[i]
                one["words"] = (words if text.word_mask_BN is None else words[text.word_mask_BN[i]]).cpu().numpy()
            made.append(one)
        return made
