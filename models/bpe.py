"""A byte-level BPE turns any text into token ids. AutoCap and CLAP's text branch read texts with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from autorecap.models.files import ModelFilesError

BOS, PAD, EOS = 0, 1, 2  # the ids that BART and RoBERTa give <s>, <pad>, </s>
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MAX_TEXT_CHARS = 1_000  # of one text: more could never fit, and need not be tokenised


class BpeTokenizer:
    """A tokenizer has `vocab` tokens, of which the first four are `SPECIAL_TOKENS`."""

    def __init__(self, bpe: Tokenizer) -> None:
        for i, token in enumerate(SPECIAL_TOKENS):
            if bpe.token_to_id(token) != i:
                raise ValueError(f"tokenizer: {token} has id {bpe.token_to_id(token)}, expected {i}")
        self.bpe = bpe

        self.vocab = 1 + max(bpe.get_vocab().values())  # ids may have gaps

    @classmethod
    def train(cls, texts: Iterable[str], vocab: int) -> Self:
        """Learns a tokenizer of at most `vocab` tokens from `texts`."""
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
    def load(cls, path: Path) -> Self:
        """Reads a tokenizer.json. Raises ModelFilesError where it is missing, damaged or of another kind."""
        try:
            return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ModelFilesError(f"{path} is not a byte-level tokenizer ({error}): fetch the folder again") from error

    def save(self, path: Path) -> None:
        """Writes a tokenizer.json."""
        path.write_text(self.bpe.to_str(pretty=True) + "\n", encoding="utf-8")

    def encode_text(self, text: str) -> list[int]:
        """Returns the ids of a text, without <s> and </s>. Tags and special tokens in it are text like any other."""
        text = text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8")  # lone surrogates exist in titles
        ids: list[int] = []
        for piece, _ in self.bpe.pre_tokenizer.pre_tokenize_str(text):
            ids += [token.id for token in self.bpe.model.tokenize(piece)]
        return ids
