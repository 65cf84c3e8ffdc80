"""Task of pre-training the demo's audio encoders: they learn which sounds there are, and when.

Each of HTSAT's time vectors learns which sounds it covers, CLAP's single vector which sounds the clip holds. The linear
heads are thrown away. The task takes the place of AudioSet, on which the paper's encoders were trained.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.demo.sound_bank import BankScene, SoundBank
from autorecap.demo.sounds import KINDS
from autorecap.models.autocap.model import AudioFeatures, AutoCap
from autorecap.training.loop.task import Scored


class TagBatch(NamedTuple):
    """The scenes of one step. K: kinds of sounds, N: time vectors"""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    features: AudioFeatures
    active: Tensor  # (B, N, K), 1 while the sound lasts


class TagLoss(nn.Module):
    """Both audio encoders of a captioner with linear heads: called with a batch, they return the loss."""

    def __init__(self, model: AutoCap) -> None:
        super().__init__()
        self.htsat, self.clap = model.htsat, model.clap
        self.htsat_tags = nn.Linear(model.config.htsat.out_width, len(KINDS))
        self.clap_tags = nn.Linear(model.config.clap_width, len(KINDS))

    def forward(self, batch: TagBatch) -> Scored:
        when = F.binary_cross_entropy_with_logits(self.htsat_tags(self.htsat(batch.features.htsat)), batch.active)
        clap_BP = self.clap(batch.features.clap)
        # A unit vector's entries are small: scaled back to the size that a linear layer expects.
        guess = self.clap_tags(clap_BP * clap_BP.shape[-1] ** 0.5)
        which = F.binary_cross_entropy_with_logits(guess, batch.active.amax(dim=1))
        return Scored(when + which, len(batch.names), {"htsat_loss": when.item(), "clap_loss": which.item()})


class TagTask:
    """Task of the encoders, for the loop. It trains those of `model` in place."""

    def __init__(self, model: AutoCap, bank: SoundBank) -> None:
        self.bank, self.num_vectors = bank, model.config.htsat.num_vectors
        for encoder in (model.htsat.encoder, model.clap.encoder):
            # The convolution of the patches can learn the same scales. With these fixed no gradient flows back to the
            # spectrograms, which would be 40 % of the work of a step.
            encoder.swin.batch_norm.requires_grad_(False)
        self.module: nn.Module = TagLoss(model)

    def batch(self, positions: range) -> TagBatch:
        drawn = [self.bank.draw(position) for position in positions]
        return TagBatch(
            names=tuple(f"scene {position}" for position in positions),
            unreadable=(),
            features=AudioFeatures(
                torch.cat([scene.features.htsat for scene in drawn]),
                torch.cat([scene.features.clap for scene in drawn]),
            ),
            active=torch.stack([self._active(scene) for scene in drawn]),
        )

    def to(self, batch: TagBatch, device: torch.device) -> TagBatch:
        features = AudioFeatures(*(mel.to(device) for mel in batch.features))
        return batch._replace(features=features, active=batch.active.to(device))

    def _active(self, scene: BankScene) -> Tensor:
        """Return which sounds every time vector covers. shape (N, K)"""
        active_NK = torch.zeros(self.num_vectors, len(KINDS))
        for kind, (start, end) in zip(scene.kinds, scene.spans, strict=True):
            active_NK[round(start * self.num_vectors) : math.ceil(end * self.num_vectors), KINDS.index(kind)] = 1.0
        return active_NK
