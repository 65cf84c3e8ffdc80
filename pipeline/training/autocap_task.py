"""Training AutoCap: examples in, the loss of their captions out.

Beside the captions, the task can teach both audio encoders to tell which sounds are there (`tag_weight`). It stands in
for the encoders' pre-training where they start from nothing; its two linear heads are thrown away afterwards.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional as F

from models.autocap.model import AudioFeatures, AutoCap, caption_loss

AUGMENT = 3  # purpose of random draws


@dataclass(frozen=True, kw_only=True)
class Example:
    """One clip to learn from."""

    key: Hashable  # examples with the same key have the same waveform
    load: Callable[[], Any]  # the waveform, as `AutoCap.prepare` takes it
    sample_rate_hz: int
    title: str
    video_caption: str
    caption: str
    tags: tuple[int, ...] = ()  # which sounds are there


class Examples(Protocol):
    """The endless list of examples."""

    num_tags: int

    def __call__(self, position: int) -> Example: ...


@dataclass(frozen=True, kw_only=True)
class AutoCapTaskConfig:
    """What is minimised, and how the spectrograms are disturbed."""

    label_smoothing: float = 0.1
    tag_weight: float = 0.0  # of the sound-tagging loss, against 1 for the captions
    cached_clips: int = 0  # log-mels to keep, 256 kB per clip in half precision: for lists that repeat
    augment: bool = True
    seed: int = 0


class Batch(NamedTuple):
    """Tensors of one step."""

    features: AudioFeatures
    metadata_ids: Tensor  # (B, T)
    metadata_mask: Tensor  # (B, T)
    labels: Tensor  # (B, L)
    tags: Tensor  # (B, K), 1 where the sound is there


class AutoCapLoss(nn.Module):
    """The captioner with its heads for tags; called with a batch, it gives the loss."""

    def __init__(self, model: AutoCap, config: AutoCapTaskConfig, num_tags: int) -> None:
        super().__init__()
        self.model, self.config = model, config
        self.htsat_tags = nn.Linear(model.config.htsat.out_width, num_tags)
        self.clap_tags = nn.Linear(model.config.clap_width, num_tags)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss to minimise, and its parts."""
        heard = self.model.hear(batch.features)
        logits_BLV = self.model(heard, batch.metadata_ids, batch.metadata_mask, batch.labels)
        captions = caption_loss(logits_BLV, batch.labels, self.config.label_smoothing)
        if not self.config.tag_weight:
            return captions, {"caption_loss": captions.item()}
        # A unit vector's entries are small: scaled back to the size that a linear layer expects.
        clap_BP = heard.clap * heard.clap.shape[-1] ** 0.5
        guesses = (self.htsat_tags(reduce(heard.vectors, "b n c -> b c", "mean")), self.clap_tags(clap_BP))
        tags = sum(F.binary_cross_entropy_with_logits(guess, batch.tags) for guess in guesses)
        assert isinstance(tags, Tensor)
        loss = captions + self.config.tag_weight * tags
        return loss, {"caption_loss": captions.item(), "tag_loss": tags.item()}


class FeatureCache:
    """Log-mels of the first `capacity` clips, in two slabs.

    Thousands of small tensors, made between large short-lived ones, would pin several times their size in the heap.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._slots: dict[Hashable, int] = {}
        self._slabs: tuple[Tensor, ...] = ()
        self._lock = Lock()

    def get(self, key: Hashable) -> AudioFeatures | None:
        slot = self._slots.get(key)
        return None if slot is None else AudioFeatures(*(slab[slot : slot + 1] for slab in self._slabs))

    def put(self, key: Hashable, features: AudioFeatures) -> None:
        with self._lock:
            if key in self._slots or len(self._slots) >= self.capacity:
                return
            if not self._slabs:
                self._slabs = tuple(mel.new_empty(self.capacity, *mel.shape[1:]) for mel in features)
            slot = len(self._slots)
            for slab, mel in zip(self._slabs, features, strict=True):
                slab[slot] = mel[0]
            self._slots[key] = slot  # last: readers take no lock


class AutoCapTask:
    """The task for the loop."""

    def __init__(self, model: AutoCap, examples: Examples, config: AutoCapTaskConfig) -> None:
        self.model, self.examples, self.config = model, examples, config
        self.module: nn.Module = AutoCapLoss(model, config, examples.num_tags)
        self._cache = FeatureCache(config.cached_clips)

    def batch(self, positions: range) -> Batch:
        """The examples at these positions, on the CPU."""
        examples = [self.examples(position) for position in positions]
        pairs = [
            self._disturbed(self._features(example), position)
            for example, position in zip(examples, positions, strict=True)
        ]
        tokenizer, config = self.model.tokenizer, self.model.config
        ids_BT, mask_BT = tokenizer.metadata(
            [e.title for e in examples], [e.video_caption for e in examples], config.max_metadata_tokens
        )
        tags_BK = torch.zeros(len(examples), self.examples.num_tags)
        for row, example in enumerate(examples):
            tags_BK[row, list(example.tags)] = 1.0
        return Batch(
            AudioFeatures(torch.cat([p.htsat for p in pairs]), torch.cat([p.clap for p in pairs])),
            ids_BT,
            mask_BT,
            tokenizer.labels([e.caption for e in examples], config.max_caption_tokens),
            tags_BK,
        )

    def to(self, batch: Batch, device: torch.device) -> Batch:
        """The batch on a device."""
        features = AudioFeatures(*(mel.to(device) for mel in batch.features))
        return Batch(features, *(tensor.to(device) for tensor in batch[1:]))

    @torch.no_grad()
    def _features(self, example: Example) -> AudioFeatures:
        """Log-mels of one clip, each of shape (1, T, M). Rounded to half precision, cached or not: equal either way."""
        found = self._cache.get(example.key)
        if found is None:
            x_BS = self.model.prepare([example.load()], example.sample_rate_hz).cpu()
            found = AudioFeatures(*(mel.half() for mel in self.model.features(x_BS)))
            self._cache.put(example.key, found)
        return AudioFeatures(*(mel.float() for mel in found))

    def _disturbed(self, features: AudioFeatures, position: int) -> AudioFeatures:
        if not self.config.augment:
            return features
        mel_config = self.model.config.htsat.mel
        floor_db = 10 * float(np.log10(mel_config.min_power))
        rng = np.random.default_rng([self.config.seed, AUGMENT, position])
        return AudioFeatures(*disturb(features, floor_db, rng))


def disturb(mels: Sequence[Tensor], floor_db: float, rng: np.random.Generator) -> list[Tensor]:
    """The same disturbances on every log-mel (shape (1, T, M), equal frames and bands): level, a noise floor, a
    low-pass, a masked band, masked stretches of time.

    Recordings differ so, and a model that has met them relies on no single detail.
    """
    num_frames, num_bands = mels[0].shape[1:]
    gain_db = rng.uniform(-8, 3)
    noise_db = rng.uniform(-60, -28) if rng.random() < 0.3 else -np.inf  # against the loudest bin
    top = rng.integers(num_bands * 5 // 8, num_bands) if rng.random() < 0.3 else num_bands
    band = (rng.integers(0, num_bands), rng.integers(1, 7)) if rng.random() < 0.3 else (0, 0)
    stretches = [(rng.integers(0, num_frames), rng.integers(5, 50)) for _ in range(rng.integers(0, 3))]
    out = []
    for mel in mels:
        x = mel + gain_db
        if np.isfinite(noise_db):
            x = torch.logaddexp(x * (np.log(10) / 10), (x.max() + noise_db) * (np.log(10) / 10)) * (10 / np.log(10))
        x[:, :, top:] = floor_db
        x[:, :, band[0] : band[0] + band[1]] = floor_db
        for start, length in stretches:
            x[:, start : start + length] = floor_db
        out.append(x.clamp(min=floor_db))
    return out
