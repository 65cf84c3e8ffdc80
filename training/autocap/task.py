"""Training task of AutoCap: turns examples into batches, and computes the loss of their captions (paper, sections 3.1,
4.1 and D.1).

Frozen parts get no gradient, stay in eval mode (no drop-path, no moving statistics of batch norms), and end with the
bits that they began with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.clips import Latent, UnreadableClipError
from autorecap.dataset.reading.examples import Example, Examples
from autorecap.dataset.reading.random_draws import TrainingDraw, numpy_generator
from autorecap.models.audio import prepare_waveform
from autorecap.models.autocap.model import AudioFeatures, AutoCap, Heard, caption_loss
from autorecap.models.autocap.tokens import IGNORE
from autorecap.training.autocap.augment import SpecAugmentConfig, draw_stripes, mask_stripes, mix_prepared
from autorecap.training.loop.task import Scored

PARTS: dict[str, tuple[str, ...]] = {
    "encoders": ("htsat.", "clap."),
    "bart": ("bart.",),
    "embeddings": ("bart.model.shared.", "bart.model.encoder.embed", "bart.model.decoder.embed", "bart.lm_head."),
}
"""Parts that can be frozen, by how their tensors' names begin. `embeddings`: words and positions of BART."""


@dataclass(frozen=True, kw_only=True)
class AutoCapTaskConfig(Section, name="task"):
    """Settings of the captioner's task: which parts are trained, and on which loss."""

    frozen: tuple[str, ...] = setting(
        ("encoders", "bart"),
        "Parts that are not trained: encoders, bart, embeddings (BART's). Stage 1: encoders, bart. Stage 2: encoders, "
        "embeddings.",
        results=True,
        choices=PARTS,
    )
    label_smoothing: float = setting(
        0.1, "Label smoothing of the captions' cross entropy; as released.", results=True, ge=0, lt=1
    )
    spec_augment: SpecAugmentConfig = setting(SpecAugmentConfig, "masks on HTSAT's log-mel")


class CaptionBatch(NamedTuple):
    """The clips of one micro-batch. Shape suffixes as in the model; X: frames and bands, see `draw_stripes`."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    audio: Tensor | AudioFeatures | Heard
    """Prepared waveforms (B, S), of which the device makes log-mels; or log-mels, or what the encoders made of them."""
    stripes: Tensor | None  # (B, X), true where masked
    metadata_ids: Tensor  # (B, T)
    metadata_mask: Tensor  # (B, T)
    labels: Tensor  # (B, L)


class AutoCapLoss(nn.Module):
    """The captioner with its loss: called with a batch, it returns the mean loss over the caption's tokens."""

    def __init__(self, model: AutoCap, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.label_smoothing = model, label_smoothing

    def train(self, mode: bool = True) -> "AutoCapLoss":
        """Set the mode, but keep encoders that are frozen as a whole in eval mode: they must not move or be noisy."""
        super().train(mode)
        for module in (self.model.htsat, self.model.clap):
            if not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self

    def forward(self, batch: CaptionBatch) -> Scored:
        """Return the mean loss over the tokens of the captions."""
        assert not isinstance(batch.audio, Tensor)
        heard = batch.audio if isinstance(batch.audio, Heard) else self.model.hear(batch.audio)
        logits_BLV = self.model(heard, batch.metadata_ids, batch.metadata_mask, batch.labels)
        loss = caption_loss(logits_BLV.float(), batch.labels, self.label_smoothing)
        return Scored(loss, (batch.labels != IGNORE).sum(), {})


class AutoCapTask:
    """Task of the captioner, for the loop."""

    def __init__(self, model: AutoCap, examples: Examples, config: AutoCapTaskConfig, seed: int = 0) -> None:
        self.model, self.examples, self.config, self.seed = model, examples, config, seed
        freeze(model, config.frozen)
        self.module: nn.Module = AutoCapLoss(model, config.label_smoothing)

    def batch(self, positions: range) -> CaptionBatch:
        """Return the examples at these positions, on the CPU. Unreadable ones are left out and named."""
        return self.batch_of(self.examples, positions)

    def batch_of(self, examples: Examples, positions: range) -> CaptionBatch:
        """Return a batch of another list of examples, such as those of validation."""
        read: list[tuple[int, Example, Tensor]] = []
        unreadable = []
        for position in positions:
            try:
                example = examples(position)
                read.append((position, example, self._waveform(example)))
            except UnreadableClipError as error:
                unreadable.append(str(error))
        if not read:
            nothing = torch.zeros(0, 0)
            return CaptionBatch((), tuple(unreadable), nothing, None, nothing, nothing, nothing)
        used = [example for _, example, _ in read]
        return self.collate(
            names=tuple(example.name for example in used),
            unreadable=tuple(unreadable),
            audio=torch.stack([waveform_S for _, _, waveform_S in read]),
            stripes=torch.stack([self._stripes(position) for position, _, _ in read]),
            titles=[example.title for example in used],
            video_captions=[example.video_caption for example in used],
            captions=[example.caption for example in used],
        )

    def collate(
        self,
        *,
        names: tuple[str, ...],
        unreadable: tuple[str, ...],
        audio: Tensor | AudioFeatures | Heard,
        stripes: Tensor | None,
        titles: Sequence[str],
        video_captions: Sequence[str],
        captions: Sequence[str],
    ) -> CaptionBatch:
        """Return a batch of these clips, their texts as tokens."""
        tokenizer, config = self.model.tokenizer, self.model.config
        ids_BT, mask_BT = tokenizer.metadata(titles, video_captions, config.max_metadata_tokens)
        labels_BL = tokenizer.labels(captions, config.max_caption_tokens)
        return CaptionBatch(names, unreadable, audio, stripes, ids_BT, mask_BT, labels_BL)

    @torch.no_grad()
    def to(self, batch: CaptionBatch, device: torch.device) -> CaptionBatch:
        """Return the batch on a device, its waveforms as log-mels with the stripes masked."""
        ids_BT, mask_BT, labels_BL = (tensor.to(device) for tensor in batch[-3:])
        audio = batch.audio
        if isinstance(audio, Tensor):
            audio = self.model.features(audio.to(device))
        else:
            audio = type(audio)(*(tensor.to(device) for tensor in audio))
        if batch.stripes is not None and isinstance(audio, AudioFeatures):
            norm: Any = self.model.htsat.encoder.swin.batch_norm
            # The value that batch norm turns into zero: the released code masks behind the norm.
            fill_M = norm.running_mean - norm.bias * (norm.running_var + norm.eps).sqrt() / norm.weight
            audio = audio._replace(htsat=mask_stripes(audio.htsat, batch.stripes.to(device), fill_M))
        return CaptionBatch(batch.names, batch.unreadable, audio, None, ids_BT, mask_BT, labels_BL)

    def _waveform(self, example: Example) -> Tensor:
        """Return the clip, mixed with its other clip if it has one, as the model takes it. shape (S,)

        Raises UnreadableClipError.
        """
        x_S = self._prepared(example)
        if example.other is None:
            return x_S
        return mix_prepared(x_S, self._prepared(example.other), example.other_share)

    def _prepared(self, example: Example) -> Tensor:
        audio = example.load()
        assert not isinstance(audio, Latent), "the recipe refuses latents"
        waveform, rate = audio
        try:
            return prepare_waveform(
                waveform,
                rate,
                target_rate_hz=self.model.config.htsat.mel.sample_rate_hz,
                num_samples=self.model.config.num_samples,
            )
        except ValueError as error:
            raise UnreadableClipError(f"{example.name}: {error}") from error

    def _stripes(self, position: int) -> Tensor:
        mel = self.model.config.htsat.mel
        rng = numpy_generator(self.seed, TrainingDraw.SPEC_AUGMENT, position)
        num_frames = self.model.config.num_samples // mel.hop + 1
        return draw_stripes(self.config.spec_augment, num_frames, mel.num_mels, rng)


def freeze(model: AutoCap, parts: Sequence[str]) -> None:
    """Train all parameters but those of these `PARTS`."""
    prefixes = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
