"""A conversion turns the released AutoCap's checkpoint into a folder that `AutoCap.from_pretrained` reads.

The checkpoint holds no tokenizer: BART's comes from elsewhere. CLAP's text branch, where the checkpoint has it, becomes
a folder of its own beside the captioner: scores of captions need it, captions do not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from autorecap.models import files
from autorecap.models.autocap import pretrained
from autorecap.models.autocap.config import AutoCapConfig
from autorecap.models.autocap.model import AutoCap
from autorecap.models.autocap.official import clap_text_from_official, from_official, official_config, why_unused
from autorecap.models.autocap.tokens import CaptionTokenizer
from autorecap.models.bpe import SPECIAL_TOKENS, BpeTokenizer
from autorecap.models.checkpoint import read_checkpoint
from autorecap.models.clap import TEXT_FOLDER, ClapText, ClapTextSize
from autorecap.models.files import TOKENIZER, ModelFilesError
from autorecap.models.official_tensors import by_reason

BART = "facebook/bart-base"
"""The released model has the tokenizer of this BART; RoBERTa, CLAP's text branch, has the same."""
_BPE_FILES = ("vocab.json", "merges.txt")  # the same tokenizer as it was written before tokenizer.json


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A conversion reports what became of the checkpoint."""

    config: AutoCapConfig
    num_tensors: int  # in the checkpoint
    has_clap_text: bool  # it was there, and is in OUT/clap_text
    unused: dict[str, list[str]]  # names of tensors that went nowhere, by the reason; "" where nobody knows one
    beside: tuple[str, ...]  # what else the file holds, none of which was read


def convert(checkpoint: str | Path, out: str | Path, tokenizer: str | Path = BART) -> Conversion:
    """Writes `out` (config.json, model.safetensors, tokenizer.json, clap_text/) from an official checkpoint.

    `tokenizer`: a tokenizer.json, a folder with one or with vocab.json and merges.txt, or a hub id.
    Raises ModelFilesError, and OSError where `out` cannot be written; nothing is written before checkpoint and
    tokenizer are known to fit.
    """
    found = read_checkpoint(checkpoint)
    config = official_config(found.tensors)
    state, unused = from_official(found.tensors, config)
    bpe = read_bart_tokenizer(tokenizer)
    if bpe.vocab != config.bart.vocab:
        raise ModelFilesError(
            f"{tokenizer}: the tokenizer has {bpe.vocab} tokens, the checkpoint's BART {config.bart.vocab}: "
            f"give the tokenizer of {BART}"
        )
    with torch.device("meta"):  # no time is spent on random weights
        own = AutoCap(config, bpe).state_dict()
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelFilesError(
                f"{checkpoint}: the tensor for {name} has shape {tuple(tensor.shape)}, but by the other tensors it "
                f"should be {tuple(own[name].shape)}: the file is damaged, or of another configuration"
            )
    text = clap_text(found.tensors, bpe)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_tensors(folder / files.WEIGHTS, state)
    bpe.save(folder / TOKENIZER)
    files.write_config(folder / files.CONFIG, pretrained.FORMAT, config.to_dict())
    if text is not None:
        text.save_pretrained(folder / TEXT_FOLDER)
        unused = [name for name in unused if not name.startswith(_TEXT_BRANCH)]
    return Conversion(
        config=config,
        num_tensors=len(found.tensors),
        has_clap_text=text is not None,
        unused=by_reason(unused, why_unused),
        beside=found.beside,
    )


_TEXT_BRANCH = ("clap_model.model.text_branch.", "clap_model.model.text_projection.")


# --- CLAP's text branch


def clap_text(
    tensors: Mapping[str, Tensor], tokenizer: BpeTokenizer, max_tokens: int = ClapTextSize.max_tokens
) -> ClapText | None:
    """Returns the text branch in an official checkpoint of AutoCap or CLAP; None where there is none.

    Raises ModelFilesError where it is incomplete, or the tokenizer is another's.
    """
    try:
        state = clap_text_from_official(tensors)
        if state is None:
            return None
        vocab, width = state["text_model.embeddings.word_embeddings.weight"].shape
        layers = {name.split(".")[3] for name in state if name.startswith("text_model.encoder.layer.")}
        max_positions = state["text_model.embeddings.position_embeddings.weight"].shape[0]
        size = ClapTextSize(
            vocab=vocab,
            width=width,
            num_layers=len(layers),
            num_heads=max(1, width // 64),  # as all of RoBERTa's sizes have it; shapes do not tell
            ffn_width=state["text_model.encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_positions=max_positions,
            max_tokens=min(max_tokens, max_positions - 2),
            joint_width=state["text_projection.linear2.weight"].shape[0],
        )
        with torch.device("meta"):  # no time is spent on random weights
            model = ClapText(size, tokenizer)
    except KeyError as error:
        raise ModelFilesError(f"CLAP's text branch: {error.args[0]} is missing: the checkpoint is incomplete") from None
    except (ValueError, IndexError) as error:
        raise ModelFilesError(f"CLAP's text branch: {error}: the file is damaged, or of another model") from error
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFilesError(f"CLAP's text branch: {name} holds NaN or infinity: fetch the file again")
    files.fill(model.roberta.to_empty(device="cpu"), state, "CLAP's text branch")
    return model


# --- the tokenizer


class TokenizerError(ModelFilesError):
    """BART's tokenizer is missing or unusable. The message says what to name in its place."""


def read_bart_tokenizer(source: str | Path) -> CaptionTokenizer:
    """Reads BART's tokenizer from a tokenizer.json, a folder, or the hub.

    Raises TokenizerError, and ModelFilesError for a file that was named and is damaged.
    """
    path = Path(source)
    if path.is_file():
        return CaptionTokenizer.load(path)
    try:
        if path.is_dir() and not (path / TOKENIZER).is_file():
            return _from_bpe_files(path)
        return CaptionTokenizer.load(files.find(source, [TOKENIZER]) / TOKENIZER)
    except ModelFilesError as error:
        raise TokenizerError(
            f"{error}. A tokenizer is not in the checkpoint: name a tokenizer.json of {BART}, or a folder with it or "
            f"with {' and '.join(_BPE_FILES)}"
        ) from error


def _from_bpe_files(folder: Path) -> CaptionTokenizer:
    vocab, merges = (folder / name for name in _BPE_FILES)
    for path in (vocab, merges):
        if not path.is_file():
            raise ModelFilesError(f"{folder} has neither {TOKENIZER} nor {path.name}")
    try:
        bpe = Tokenizer(models.BPE.from_file(str(vocab), str(merges), unk_token="<unk>"))  # noqa: S106 - no password
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        bpe.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
        return CaptionTokenizer(bpe)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelFilesError(f"{folder} does not hold a byte-level tokenizer ({error})") from error
