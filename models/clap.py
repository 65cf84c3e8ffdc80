"""CLAP maps clips and texts to vectors in one space, where they can be compared.

Wu et al., "Large-scale Contrastive Language-Audio Pretraining", 2023 (LAION's CLAP). AutoCap hears by the audio branch;
the text branch scores captions and conditions the generator.
Shape suffixes: B batch, T frames or tokens, M mel bands, P joint width.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import ClapTextConfig, ClapTextModelWithProjection

from autorecap.models import files
from autorecap.models.bpe import BOS, EOS, PAD, BpeTokenizer
from autorecap.models.config import check_heads, check_positive, check_share, from_dict
from autorecap.models.files import CONFIG, TOKENIZER, WEIGHTS, ModelFilesError
from autorecap.models.swin import SwinConfig, SwinEncoder

FILES = (CONFIG, WEIGHTS, TOKENIZER)
TEXT_FOLDER = "clap_text"
"""A captioner's folder holds the text branch of the CLAP that it listens with under this name."""


class ClapAudio(nn.Module):
    """CLAP's audio branch is a Swin encoder whose pooled output is projected to unit length."""

    def __init__(self, config: SwinConfig, joint_width: int) -> None:
        super().__init__()
        self.encoder = SwinEncoder(config)
        self.projection = nn.Sequential(
            nn.Linear(config.out_width, joint_width), nn.ReLU(), nn.Linear(joint_width, joint_width)
        )

    def forward(self, mel_BTM: Tensor) -> Tensor:
        """shape (B, T, M) -> (B, P), L2-normalised"""
        _, pooled_BC = self.encoder(mel_BTM)
        return F.normalize(self.projection(pooled_BC), dim=-1)


# --- text --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClapTextSize:
    """A ClapTextSize fixes the text branch, a RoBERTa. The defaults are those of LAION's CLAP, roberta-base."""

    vocab: int = 50_265
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    ffn_width: int = 3_072
    max_positions: int = 514  # of the table: RoBERTa counts from 2
    joint_width: int = 512  # of the vectors that are compared
    dropout: float = 0.1
    eps: float = 1e-5  # of its layer norms
    max_tokens: int = 77  # of one text with <s> and </s>; what LAION's CLAP was trained with

    def __post_init__(self) -> None:
        check_positive("text", self, "vocab", "width", "num_layers", "num_heads", "ffn_width", "joint_width")
        check_share("text", self, "dropout")
        check_heads("text", self.width, self.num_heads)
        if self.eps <= 0:
            raise ValueError(f"text: eps is {self.eps}: write more than 0")
        if not 3 <= self.max_tokens <= self.max_positions - 2:
            raise ValueError(
                f"text: max_tokens is {self.max_tokens}: write 3 to {self.max_positions - 2}, max_positions - 2"
            )


TEXT_SIZES: dict[str, ClapTextSize] = {
    # beside the bundled captioner
    "demo": ClapTextSize(
        vocab=768,
        width=128,
        num_layers=2,
        num_heads=4,
        ffn_width=256,
        max_positions=66,
        joint_width=64,
        dropout=0.05,
        max_tokens=64,
    ),
    "base": ClapTextSize(),
}


class ClapText(nn.Module):
    """CLAP's text branch is a RoBERTa whose pooled output is projected to unit length.

    `embed` takes texts, `forward` tokens.
    """

    def __init__(self, config: ClapTextSize, tokenizer: BpeTokenizer) -> None:
        super().__init__()
        if tokenizer.vocab > config.vocab:
            raise ValueError(f"the tokenizer has {tokenizer.vocab} tokens, but config.vocab is {config.vocab}")
        self.config = config
        self.tokenizer = tokenizer
        # `Any`: transformers' modules have no types
        self.roberta: Any = ClapTextModelWithProjection(_transformers_config(config))
        for name in _DERIVED:  # some released files hold these, some do not
            embeddings = self.roberta.text_model.embeddings
            embeddings.register_buffer(name, getattr(embeddings, name), persistent=False)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.roberta.device
        return device

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns ids and mask of `<s> text </s>`, both of shape (B, T), on the CPU. A text too long loses its end."""
        room = self.config.max_tokens - 2
        rows = [torch.tensor([BOS, *self.tokenizer.encode_text(text)[:room], EOS]) for text in texts]
        ids_BT = pad_sequence(rows, batch_first=True, padding_value=PAD)
        return ids_BT, (ids_BT != PAD).long()

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """shape (B, T), (B, T) -> (B, P), L2-normalised"""
        return F.normalize(self.roberta(input_ids=ids_BT, attention_mask=mask_BT).text_embeds, dim=-1)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Returns one unit vector per text, whatever mode the model is in. shape (B, P), on the model's device

        A text's vector does not depend on the others of the batch, but for the last bits of floating point.
        """
        if not len(texts):
            return torch.zeros(0, self.config.joint_width, device=self.device)
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                ids_BT, mask_BT = self.tokens(texts)
                vectors_BP: Tensor = self(ids_BT.to(self.device), mask_BT.to(self.device))
        finally:
            self.train(was_training)
        return vectors_BP

    # --- files: those of transformers' ClapTextModelWithProjection, so either reads what the other wrote

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "ClapText":
        """Loads the text branch in a folder or a repository of the Hugging Face hub, in eval mode.

        Reads folders of `save_pretrained`, of transformers' ClapTextModelWithProjection, and of its whole ClapModel
        (laion/larger_clap_general), of which the audio branch is left out. Raises ModelFilesError.
        """
        folder = files.find(path, FILES)
        weights = {name: tensor for name, tensor in files.read_weights(folder / WEIGHTS).items() if _is_text(name)}
        model = cls._new(folder)
        files.fill(model.roberta, weights, folder / WEIGHTS)
        files.check_finite(model.roberta, folder / WEIGHTS)
        return model.eval()

    @classmethod
    def check_pretrained(cls, path: str | Path) -> None:
        """Raises ModelFilesError where `from_pretrained` would, without the time and memory that a model takes."""
        folder = files.find(path, FILES)
        with torch.device("meta"):
            model = cls._new(folder)
        files.check_weights(folder / WEIGHTS, model.roberta, _is_text)

    @classmethod
    def _new(cls, folder: Path) -> "ClapText":
        try:
            return cls(read_text_config(folder / CONFIG), BpeTokenizer.load(folder / TOKENIZER))
        except ValueError as error:
            raise ModelFilesError(f"{folder}: {error}") from error

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes config.json, model.safetensors and tokenizer.json. `dtype`: of the stored weights, if another."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_weights(folder / WEIGHTS, self.roberta, dtype)
        self.tokenizer.save(folder / TOKENIZER)
        values = {theirs: getattr(self.config, ours) for ours, theirs in _NAMES.items()}
        values |= {"model_type": _TEXT_MODEL, "attention_probs_dropout_prob": self.config.dropout}
        (folder / CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


_TEXT_MODEL = "clap_text_model"  # transformers' name for it
_DERIVED = ("position_ids", "token_type_ids")  # buffers that a constructor computes
_OTHER_BRANCH = ("audio_model.", "audio_projection.", "logit_scale")


def _is_text(name: str) -> bool:
    return not name.startswith(_OTHER_BRANCH) and not name.endswith(_DERIVED)


_NAMES = {
    "vocab": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "ffn_width": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "joint_width": "projection_dim",
    "dropout": "hidden_dropout_prob",
    "eps": "layer_norm_eps",
    "max_tokens": "max_tokens",
}
"""Our settings have these names in transformers; the last is our own, and transformers keeps it without minding."""


def read_text_config(path: Path) -> ClapTextSize:
    """Reads the size of the text branch from a config.json of a text model or a whole CLAP. Raises ModelFilesError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        kind = values.get("model_type")
        if kind == "clap":
            values = (values.get("text_config") or {}) | {"projection_dim": values.get("projection_dim", 512)}
        elif kind != _TEXT_MODEL:
            raise ModelFilesError(
                f"{path}: model_type is {kind!r}, expected 'clap' or {_TEXT_MODEL!r}: give the folder of a CLAP"
            )
        defaults = ClapTextConfig()  # what its files leave out means this, and not our default
        known = {ours: values.get(theirs, getattr(defaults, theirs, None)) for ours, theirs in _NAMES.items()}
        max_tokens = known.pop("max_tokens") or min(ClapTextSize.max_tokens, known["max_positions"] - 2)
        return from_dict(ClapTextSize, known | {"max_tokens": max_tokens})
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelFilesError(f"{path} is not a config of CLAP ({error}): fetch or save the folder again") from error


def _transformers_config(size: ClapTextSize) -> ClapTextConfig:
    values = {theirs: getattr(size, ours) for ours, theirs in _NAMES.items() if ours != "max_tokens"}
    return ClapTextConfig(
        **values, attention_probs_dropout_prob=size.dropout, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS
    )
