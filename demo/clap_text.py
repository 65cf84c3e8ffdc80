"""The demo's CLAP learns to read: a small text tower beside the frozen audio branch, so that captions can be scored.

Contrastive, as CLAP was trained: in a batch every text must find the sounds that it describes, and every sound its
texts. Scenes of the same sounds in the same composition share their texts, so they count as one another's.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.demo import scenes
from autorecap.demo.caption_task import HeardScenes
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.training.loop.task import Scored

MAX_SCALE = 50.0  # of cosines before the softmax: a bound keeps a small set from being learned by heart


class PairBatch(NamedTuple):
    """Texts and what is heard in their scenes; P: joint width."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    ids: Tensor  # (B, T)
    mask: Tensor  # (B, T)
    audio: Tensor  # (B, P), unit vectors
    same: Tensor  # (B, B), 1 where two scenes hold the same sounds


class ContrastiveLoss(nn.Module):
    """A text tower and the scale of its cosines."""

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
        # Beside which sound fits best, how well: the score of a clip is the cosine alone.
        fit = 1 - cosines_BB.diagonal().mean()
        return Scored(contrast + fit, len(batch.names), {"contrast": contrast.item(), "cosine": 1 - fit.item()})


class PairTask:
    """The task for the loop."""

    def __init__(self, text: ClapText, heard: HeardScenes, seed: int) -> None:
        self.text, self.scenes, self.seed = text, heard, seed
        self.module: nn.Module = ContrastiveLoss(text)

    def batch(self, positions: range) -> PairBatch:
        chosen = [scenes.scene_at(self.seed, position, len(self.scenes)) for position in positions]
        about = [(self.scenes.kinds[index], self.scenes.compositions[index]) for index in chosen]
        texts = [
            scenes.draw_texts(self.seed, position, kinds, composition)[2]
            for position, (kinds, composition) in zip(positions, about, strict=True)
        ]
        # CLAP's one vector does not say which sound came first.
        sounds = [frozenset(kinds) for kinds, _ in about]
        ids_BT, mask_BT = self.text.tokens(texts)
        return PairBatch(
            names=tuple(f"scene {index}" for index in chosen),
            unreadable=(),
            ids=ids_BT,
            mask=mask_BT,
            audio=self.scenes.heard.clap[chosen].float(),
            same=torch.tensor([[float(a == b) for b in sounds] for a in sounds]),
        )

    def to(self, batch: PairBatch, device: torch.device) -> PairBatch:
        tensors = (tensor.to(device) for tensor in batch[2:])
        return PairBatch(batch.names, batch.unreadable, *tensors)


def new_text_tower(tokenizer: BpeTokenizer) -> ClapText:
    """A tower that knows nothing yet."""
    return ClapText(TEXT_SIZES["demo"], tokenizer)
