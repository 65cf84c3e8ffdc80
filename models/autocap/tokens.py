"""Captions and metadata as tokens.

The vocabulary is a byte-level BPE, as BART's: any text has tokens. The tags around metadata are no part of it: their
ids follow the vocabulary's, and AutoCap embeds them separately, so a title that contains "<TITLE>" stays text.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

BOS, PAD, EOS, UNK = 0, 1, 2, 3  # the ids that BART gives <s>, <pad>, </s>, <unk>
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
IGNORE = -100  # a label that the loss leaves out

# One pair per kind of metadata: caption of the picture by two captioners, title, description, subtitles, labels.
TAGS = tuple(tag for name in ("HQVC", "AVC", "TITLE", "DESC", "SUB", "LBL") for tag in (f"<{name}>", f"</{name}>"))
MAX_TEXT_CHARS = 1_000  # of one field: more could never fit, and need not be tokenised


class CaptionTokenizer:
    """Texts to ids and back. Ids from `vocab` on are tags, in the order of `TAGS`."""

    def __init__(self, bpe: Tokenizer) -> None:
        for i, token in enumerate(SPECIAL_TOKENS):
            if bpe.token_to_id(token) != i:
                raise ValueError(f"tokenizer: {token} has id {bpe.token_to_id(token)}, expected {i}")
        self.bpe = bpe

        self.vocab = 1 + max(bpe.get_vocab().values())  # ids may have gaps

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int) -> "CaptionTokenizer":
        """A byte-level BPE of at most `vocab` tokens, learned from `texts`."""
        bpe = Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106 - a token of text, no password
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer)
        return cls(bpe)

    @classmethod
    def load(cls, path: Path) -> "CaptionTokenizer":
        """Read a tokenizer.json."""
        return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        path.write_text(self.bpe.to_str(pretty=True) + "\n", encoding="utf-8")

    def encode_text(self, text: str) -> list[int]:
        """The ids of a text, without <s> and </s>. A tag or special token in the text is text like any other."""
        text = text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8")  # lone surrogates exist in titles
        ids: list[int] = []
        for piece, _ in self.bpe.pre_tokenizer.pre_tokenize_str(text):
            ids += [token.id for token in self.bpe.model.tokenize(piece)]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of generated ids, up to the first </s>, without special tokens."""
        text: list[int] = []
        for i in ids:
            if i == EOS and text:
                break
            if i >= len(SPECIAL_TOKENS):
                text.append(i)
        return " ".join(self.bpe.decode(text).split())

    def metadata_ids(self, title: str, video_caption: str, max_tokens: int) -> list[int]:
        """`<HQVC> {video_caption} </HQVC> \\n <TITLE> {title} </TITLE>` in at most `max_tokens`.

        Texts that are too long lose their ends, the longer one first: the tags always close.
        """
        hqvc, hqvc_end, title_tag, title_end = (
            self.vocab + TAGS.index(tag) for tag in ("<HQVC>", "</HQVC>", "<TITLE>", "</TITLE>")
        )
        between = self.encode_text(" \n ")
        caption_ids, title_ids = self.encode_text(f" {video_caption} "), self.encode_text(f" {title} ")
        room = max_tokens - 4 - len(between)
        while len(caption_ids) + len(title_ids) > room:
            (caption_ids if len(caption_ids) > len(title_ids) else title_ids).pop()
        return [hqvc, *caption_ids, hqvc_end, *between, title_tag, *title_ids, title_end]

    def metadata(self, titles: Sequence[str], video_captions: Sequence[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Ids and mask, both of shape (B, T): each row's metadata, one </s>, then masked padding."""
        rows = [
            self.metadata_ids(title, caption, max_tokens) for title, caption in zip(titles, video_captions, strict=True)
        ]
        return self.padded(rows)

    def padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of `metadata_ids` as `metadata` gives them."""
        lengths = torch.tensor([len(row) + 1 for row in rows])
        ids = _padded([[*row, EOS] for row in rows], PAD)
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()

    def labels(self, captions: Sequence[str], max_tokens: int) -> Tensor:
        """Targets of shape (B, L): `<s> caption </s>`, then `IGNORE`."""
        return _padded([[BOS, *self.encode_text(text)[: max_tokens - 2], EOS] for text in captions], IGNORE)


def _padded(rows: Sequence[list[int]], filler: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
