"""FLAN-T5's encoder reads a text word by word, and as one vector (paper, section 3.3; Chung et al., 2022).

Shape suffixes: B batch, N tokens, W width.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import T5Config, T5EncoderModel

from autorecap.models import files
from autorecap.models.config import check_positive
from autorecap.models.files import CONFIG, TOKENIZER, WEIGHTS, ModelFilesError

FILES = (CONFIG, WEIGHTS, TOKENIZER)
MAX_TOKENS = 128  # of one text with </s>, as in the released model
MAX_TEXT_CHARS = 4_000  # more cannot fit into 128 tokens and need not be tokenised
_TABLE, _TABLE_AGAIN = "shared.weight", "encoder.embed_tokens.weight"  # two names of the word embeddings


class T5Text(nn.Module):
    """T5Text is the encoder with its tokenizer: `tokens` takes texts, `forward` tokens."""

    def __init__(self, config: T5Config, bpe: Tokenizer) -> None:
        super().__init__()
        if bpe.get_vocab_size() > config.vocab_size:
            raise ValueError(f"the tokenizer has {bpe.get_vocab_size()} tokens, but vocab_size is {config.vocab_size}")
        bpe.no_padding()
        bpe.no_truncation()
        bpe.encode_special_tokens = True  # "</s>" in a prompt ends nothing
        self.config = config
        self.bpe = bpe
        self.encoder: Any = T5EncoderModel(config)  # `Any`: transformers' modules have no types

    @property
    def width(self) -> int:
        return int(self.config.d_model)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.encoder.device
        return device

    def encode_text(self, text: str) -> list[int]:
        """Returns the ids of a text without </s>, however many."""
        text = text[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8")  # lone surrogates
        ids = self.bpe.encode(text, add_special_tokens=False).ids
        # To the tokenizer </s> and <pad> are pieces like any other, so a text that holds them would bring their ids.
        return [i for i in ids if i not in (self.config.eos_token_id, self.config.pad_token_id)]

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns ids and mask of `text </s>`, both of shape (B, N), on the CPU. A text too long loses its end."""
        room, end = MAX_TOKENS - 1, self.config.eos_token_id
        rows = [torch.tensor([*self.encode_text(text)[:room], end]) for text in texts]
        ids_BN = pad_sequence(rows, batch_first=True, padding_value=self.config.pad_token_id or 0)
        lengths_B = torch.tensor([len(row) for row in rows])
        return ids_BN, torch.arange(ids_BN.shape[1]) < lengths_B[:, None]

    def forward(self, ids_BN: Tensor, mask_BN: Tensor) -> Tensor:
        """shape (B, N), (B, N) -> (B, N, W)"""
        words_BNW: Tensor = self.encoder(input_ids=ids_BN, attention_mask=mask_BN.long()).last_hidden_state
        return words_BNW

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "T5Text":
        """Loads the encoder in a folder or a repository of the Hugging Face hub, in eval mode.

        It reads what transformers writes: an encoder alone, or a whole T5 (google/flan-t5-large) without its decoder.
        Raises ModelFilesError.
        """
        folder = files.find(path, FILES)
        try:
            values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if values.get("model_type") not in ("t5", "mt5"):
                raise ValueError(f"model_type is {values.get('model_type')!r}, expected 't5'")
            config = _checked(values)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ModelFilesError(
                f"{folder / CONFIG} is not a config of T5 ({error}): fetch the folder again"
            ) from error
        try:
            bpe = Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ModelFilesError(
                f"{folder / TOKENIZER} is not a tokenizer ({error}): fetch the folder again"
            ) from error
        try:
            model = cls(config, bpe)
        except (ValueError, KeyError) as error:  # KeyError: of an activation that transformers has not
            raise ModelFilesError(f"{folder}: {error}: fetch the folder again") from error
        weights = files.read_weights(folder / WEIGHTS)
        if _TABLE_AGAIN in weights:
            weights.setdefault(_TABLE, weights.pop(_TABLE_AGAIN))
        own = {name: tensor for name, tensor in weights.items() if name == _TABLE or name.startswith("encoder.")}
        files.fill(model.encoder, own, folder / WEIGHTS)
        files.check_finite(model.encoder, folder / WEIGHTS)
        return model.eval()

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes config.json, model.safetensors and tokenizer.json, which transformers reads too."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_weights(folder / WEIGHTS, self.encoder, dtype)
        (folder / TOKENIZER).write_text(self.bpe.to_str(pretty=True) + "\n", encoding="utf-8")
        values = self.config.to_dict() | {"architectures": ["T5EncoderModel"]}
        values = {name: value for name, value in values.items() if name not in ("transformers_version", "dtype")}
        text = json.dumps(values, indent=2, sort_keys=True)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _checked(values: dict[str, Any]) -> T5Config:
    """Returns the config. Raises ValueError that names a setting with which there is no encoder."""
    try:
        config = T5Config.from_dict(values)
    except Exception as error:  # transformers has errors of its own for values of another type
        raise ValueError(str(error)) from error
    for name in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"):
        if not isinstance(getattr(config, name), int):
            raise ValueError(f"{name} is {getattr(config, name)!r}, expected a whole number")
    check_positive("t5", config, "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    if not isinstance(config.eos_token_id, int) or not 0 <= config.eos_token_id < config.vocab_size:
        raise ValueError(f"eos_token_id is {config.eos_token_id!r}, expected one of {config.vocab_size} tokens")
    return config


def pool(words_BNW: Tensor, mask_BN: Tensor) -> Tensor:
    """Averages over a text's own tokens. shape (B, N, W), (B, N) -> (B, W)

    The official code averages the padding as well, so that there a prompt's vector depends on its batch.
    """
    weight_BN1 = mask_BN[..., None].to(words_BNW.dtype)
    return (words_BNW * weight_BN1).sum(dim=1) / weight_BN1.sum(dim=1)
