"""AutoCap's tokenizer turns captions and metadata into tokens.

The tags around metadata are no part of the BPE's vocabulary: their ids follow its own, and AutoCap embeds them
separately, so a title that contains "<TITLE>" stays text.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from autorecap.models.bpe import BOS, EOS, PAD, SPECIAL_TOKENS, BpeTokenizer

IGNORE = -100  # a label that the loss leaves out

# One pair per kind of metadata: caption of the picture by two captioners, title, description, subtitles, labels.
TAGS = tuple(tag for name in ("HQVC", "AVC", "TITLE", "DESC", "SUB", "LBL") for tag in (f"<{name}>", f"</{name}>"))


class CaptionTokenizer(BpeTokenizer):
    """AutoCap's tokenizer is a BPE, and has tags: ids from `vocab` on, in the order of `TAGS`."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of generated ids, up to the first </s>, without special tokens."""
        text: list[int] = []
        for i in ids:
            if i == EOS and text:
                break
            if i >= len(SPECIAL_TOKENS):
                text.append(i)
        return " ".join(self.bpe.decode(text).split())

    def metadata_ids(self, title: str, video_caption: str, max_tokens: int) -> list[int]:
        """Returns `<HQVC> {video_caption} </HQVC> \\n <TITLE> {title} </TITLE>` as at most `max_tokens` ids.

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
        """Returns ids and mask, both of shape (B, T): each row's metadata, one </s>, then masked padding."""
        rows = [
            self.metadata_ids(title, caption, max_tokens) for title, caption in zip(titles, video_captions, strict=True)
        ]
        return self.padded(rows)

    def padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Pads rows of `metadata_ids` to what `metadata` returns."""
        lengths = torch.tensor([len(row) + 1 for row in rows])
        ids = _padded([[*row, EOS] for row in rows], PAD)
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()

    def labels(self, captions: Sequence[str], max_tokens: int) -> Tensor:
        """Returns targets of shape (B, L): `<s> caption </s>`, then `IGNORE`."""
        return _padded([[BOS, *self.encode_text(text)[: max_tokens - 2], EOS] for text in captions], IGNORE)


def _padded(rows: Sequence[list[int]], filler: int) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
