"""GenAu is conditioned on a text, as FLAN-T5 and CLAP see it, and on the dataset whose style is wanted.

As released, a text is one vector, CLAP's followed by the mean of T5's. T5's words may go in one by one instead, or as
well, and either encoder may be left out (paper, Tables 3 and 10). For classifier-free guidance a part of the training
clips lose all their conditions: their text becomes "", their dataset the unconditional one.

Shape suffixes: B batch, N words, W width of a text vector, P CLAP's width.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autorecap.models import files
from autorecap.models.clap import ClapText
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import ContextConfig
from autorecap.models.genau.text.t5 import MAX_TOKENS, T5Text, pool

DATASETS = (
    "audiocaps",
    "clotho",
    "vggsounds",
    "wavcaps_audioset_strong",
    "wavcaps_bbcsound",
    "wavcaps_freesound",
    "wavcaps_soundbible",
    "fsd50k",
    "caption_audioset",
    "autocap",
)
"""The released models' datasets; the position is the id."""

T5_USES = ("none", "summary", "words", "both")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A TextConfig says which text encoders a model has, and what it takes of them.

    The widths are in ContextConfig.
    """

    clap: bool = True
    t5: str = "summary"  # as one vector; "words": each by itself; "both"; "none"

    def __post_init__(self) -> None:
        if self.t5 not in T5_USES:
            raise ValueError(f"text: t5 is {self.t5!r}: write one of {', '.join(T5_USES)}")

    @property
    def has_t5(self) -> bool:
        return self.t5 != "none"


class Condition(NamedTuple):
    """A backbone takes the conditions of a batch in this form."""

    text: Text
    dataset_ids_B: Tensor  # int64

    def expand(self, batch: int) -> "Condition":
        """Repeats one condition for a whole batch."""
        text = (None if part is None else part.expand(batch, *part.shape[1:]) for part in self.text)
        return Condition(Text(*text), self.dataset_ids_B.expand(batch))


class TextEncoders(nn.Module):
    """The text encoders of a model can be trained where they are called with texts; `encode` is for frozen ones."""

    def __init__(self, config: TextConfig, *, t5: T5Text | None = None, clap: ClapText | None = None) -> None:
        super().__init__()
        for name, wanted, encoder in (("t5", config.has_t5, t5), ("clap", config.clap, clap)):
            if wanted != (encoder is not None):
                asked, given = ("a", "none") if wanted else ("no", "one")
                raise ValueError(f"text: the config asks for {asked} {name} encoder, but {given} was given")
        self.config = config
        self.t5 = t5
        self.clap = clap
        self._empty: Text | None = None

    @classmethod
    def from_pretrained(cls, config: TextConfig, *, t5: str | Path, clap: str | Path) -> "TextEncoders":
        """Loads those of the two encoders that the model has, from folders or hub ids. Raises ModelFilesError."""
        return cls(
            config,
            t5=T5Text.from_pretrained(t5) if config.has_t5 else None,
            clap=ClapText.from_pretrained(clap) if config.clap else None,
        )

    def check_widths(self, context: ContextConfig) -> None:
        """Raises ValueError where a backbone expects other vectors than these encoders give."""
        t5, clap = self.t5.width if self.t5 else 0, self.clap.config.joint_width if self.clap else 0
        summary = clap + (t5 if self.config.t5 in ("summary", "both") else 0)
        words = t5 if self.config.t5 in ("words", "both") else 0
        for name, given, expected in (
            ("summary_width", summary, context.summary_width),
            ("word_width", words, context.word_width),
        ):
            if given != expected:
                raise ValueError(
                    f"context: {name} is {expected}, but the text encoders (clap {clap}, t5 {t5}, used as "
                    f"{self.config.t5}) give {given}: take the encoders that the model was trained with"
                )

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def forward(self, texts: Sequence[str]) -> Text:
        """Returns the texts' vectors, with their gradients. What is too long for an encoder loses its end."""
        summary = []
        words_BNW = mask_BN = None
        if self.clap is not None:
            ids, mask = self.clap.tokens(texts)
            summary.append(self.clap(ids.to(self.device), mask.to(self.device)))
        if self.t5 is not None:
            ids, mask = self.t5.tokens(texts)
            mask = mask.to(self.device)
            vectors_BNW = self.t5(ids.to(self.device), mask)
            if self.config.t5 in ("summary", "both"):
                summary.append(pool(vectors_BNW, mask))
            if self.config.t5 in ("words", "both"):
                words_BNW, mask_BN = vectors_BNW, mask
        return Text(torch.cat(summary, dim=1) if summary else None, words_BNW, mask_BN)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Text:
        """Returns the texts' vectors, without gradient or dropout, whatever mode the encoders are in.

        A text's vectors do not depend on the others of the batch, but for the last bits of floating point.
        """
        was_training = self.training
        self.eval()
        try:
            text: Text = self(texts)
        finally:
            self.train(was_training)
        return text

    def digest(self) -> str:
        """Returns a digest that tells which encoders, used how, a text was encoded with."""
        return files.digest(self, asdict(self.config))

    def encode_empty(self) -> Text:
        """Returns the vectors of "", the unconditional text, a batch of one. `to` and `train` make it compute them
        anew.
        """
        if self._empty is None:
            with torch.inference_mode(False):  # it may be needed in training later
                self._empty = self.encode([""])
        return self._empty

    def train(self, mode: bool = True) -> "TextEncoders":
        if mode:
            self._empty = None
        return super().train(mode)

    def _apply(self, *args: object, **kwargs: object) -> "TextEncoders":  # what `to` and its like end in
        self._empty = None
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch's has no types
        return self

    def overlong(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """Tells which texts are not read to their end, and by whom."""
        cut_texts = []
        for i, text in enumerate(texts):
            cut = []
            if self.t5 is not None and len(self.t5.encode_text(text)) > MAX_TOKENS - 1:
                cut.append(f"T5 reads {MAX_TOKENS} tokens")
            if self.clap is not None:
                room = self.clap.config.max_tokens - 2
                if len(self.clap.tokenizer.encode_text(text)) > room:
                    cut.append(f"CLAP reads {room + 2}")
            if cut:
                cut_texts.append((i, ", ".join(cut)))
        return cut_texts


# --- batches of conditions


def concat(conditions: Sequence[Condition]) -> Condition:
    """Joins conditions of the same model, one batch behind the other."""
    texts = [condition.text for condition in conditions]
    dataset_ids_B = torch.cat([condition.dataset_ids_B for condition in conditions])
    summary_BW = _cat([text.summary_BW for text in texts])
    if texts[0].words_BNW is None:
        return Condition(Text(summary_BW), dataset_ids_B)
    longest = max(_words(text)[0].shape[1] for text in texts)
    padded = [_padded(text, longest) for text in texts]
    return Condition(Text(summary_BW, *map(torch.cat, zip(*padded, strict=True))), dataset_ids_B)


def drop(condition: Condition, unconditional: Condition, dropped_B: Tensor) -> Condition:
    """Replaces all conditions of some clips of a batch. `unconditional`: a batch of one.

    Each clip is drawn for itself: the official code draws once for a whole batch, and never for the first.
    """
    dropped_B = dropped_B.to(condition.dataset_ids_B.device)
    blank = unconditional.expand(len(dropped_B))
    dataset_ids_B = torch.where(dropped_B, blank.dataset_ids_B, condition.dataset_ids_B)
    summary_BW = None
    if condition.text.summary_BW is not None and blank.text.summary_BW is not None:
        summary_BW = torch.where(dropped_B[:, None], blank.text.summary_BW, condition.text.summary_BW)
    if condition.text.words_BNW is None:
        return Condition(Text(summary_BW), dataset_ids_B)
    longest = max(_words(text)[0].shape[1] for text in (condition.text, blank.text))
    (words_BNW, mask_BN), (blank_BNW, blank_BN) = (_padded(text, longest) for text in (condition.text, blank.text))
    words_BNW = torch.where(dropped_B[:, None, None], blank_BNW, words_BNW)
    return Condition(Text(summary_BW, words_BNW, torch.where(dropped_B[:, None], blank_BN, mask_BN)), dataset_ids_B)


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None


def _words(text: Text) -> tuple[Tensor, Tensor]:
    assert text.words_BNW is not None
    mask_BN = text.word_mask_BN
    if mask_BN is None:
        mask_BN = torch.ones(text.words_BNW.shape[:2], dtype=torch.bool, device=text.words_BNW.device)
    return text.words_BNW, mask_BN


def _padded(text: Text, longest: int) -> tuple[Tensor, Tensor]:
    words_BNW, mask_BN = _words(text)
    room = longest - words_BNW.shape[1]
    return F.pad(words_BNW, (0, 0, 0, room)), F.pad(mask_BN, (0, room))
