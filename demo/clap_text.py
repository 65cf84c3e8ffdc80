"""Training of the text tower of the demo's CLAP, beside its frozen audio branch, so that captions can be scored.

The loss is contrastive, as for CLAP: in a batch every text must find the sounds that it describes, and every sound its
texts. Scenes with the same sounds can have the same texts, so each matches the texts of all of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.demo import scenes
from autorecap.demo.caption_task import EncodedScenes
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.training.loop.task import Scored

MAX_SCALE = 50.0  # of cosines before the softmax: the bound prevents overfitting to a small set


class PairBatch(NamedTuple):
    """Texts, and the audio embeddings of their scenes. P: joint width"""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    ids: Tensor  # (B, T)
    mask: Tensor  # (B, T)
    audio: Tensor  # (B, P), unit vectors
    same: Tensor  # (B, B), 1 if two scenes hold the same sounds


class ContrastiveLoss(nn.Module):
    """A text tower and the scale of its cosines: called with a batch, they return the contrastive loss."""

    def __init__(self, text: ClapText) -> None:
        super().__init__()
        self.text = text
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, batch: PairBatch) -> Scored:
        text_BP = self.text(batch.ids, batch.mask)
        cosines_BB = text_BP @ batch.audio.T
        logits_BB = cosines_BB * self.log_scale.exp().clamp(max=MAX_SCALE)
        wanted_BB = batch.same / batch.same.sum(dim=1, keepdim=True)
        contrast = (F.cross_entropy(logits_BB, wanted_BB) + F.cross_entropy(logits_BB.T, wanted_BB)) / 2
        # The contrast says which sound fits best. How well it fits matters too: the score of a clip is the cosine.
        fit = 1 - cosines_BB.diagonal().mean()
        return Scored(contrast + fit, len(batch.names), {"contrast": contrast.item(), "cosine": 1 - fit.item()})


class PairTask:
    """Task of the text tower, for the loop."""

    def __init__(self, text: ClapText, encoded: EncodedScenes, seed: int) -> None:
        self.text, self.scenes, self.seed = text, encoded, seed
        self.module: nn.Module = ContrastiveLoss(text)

    def batch(self, positions: range) -> PairBatch:
        chosen = [scenes.scene_at(self.seed, position, len(self.scenes)) for position in positions]
        about = [(self.scenes.kinds[index], self.scenes.compositions[index]) for index in chosen]
        texts = [
            scenes.draw_texts(self.seed, position, kinds, composition)[2]
            for position, (kinds, composition) in zip(positions, about, strict=True)
        ]
        # CLAP's single vector does not tell which sound came first.
        sounds = [frozenset(kinds) for kinds, _ in about]
        ids_BT, mask_BT = self.text.tokens(texts)
        return PairBatch(
            names=tuple(f"scene {index}" for index in chosen),
            unreadable=(),
            ids=ids_BT,
            mask=mask_BT,
            audio=self.scenes.features.clap[chosen].float(),
            same=torch.tensor([[float(a == b) for b in sounds] for a in sounds]),
        )

    def to(self, batch: PairBatch, device: torch.device) -> PairBatch:
        tensors = (tensor.to(device) for tensor in batch[2:])
        return PairBatch(batch.names, batch.unreadable, *tensors)


def new_text_tower(tokenizer: BpeTokenizer) -> ClapText:
    """Return an untrained text tower of the demo's size."""
    return ClapText(TEXT_SIZES["demo"], tokenizer)
