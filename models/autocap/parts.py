"""An AutoCap to begin training with is assembled from published HTSAT, CLAP and BART; the rest is new (section 4.1).

The three are published apart: HTSAT and LAION's CLAP as checkpoints of their own training code, BART by transformers.
Their names are those inside an official AutoCap but for a prefix, so `official` says where they go.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from autorecap.models import files
from autorecap.models.autocap.config import SIZES
from autorecap.models.autocap.convert import BART, clap_text, read_bart_tokenizer
from autorecap.models.autocap.model import AutoCap
from autorecap.models.autocap.official import PRETRAINED, from_official
from autorecap.models.checkpoint import read_checkpoint
from autorecap.models.clap import TEXT_FOLDER
from autorecap.models.files import ModelFilesError

_HTSAT_PREFIXES = ("module.", "sed_model.")
_CLAP_PREFIXES = ("module.",)
_BART_PREFIXES = ("model.",)


def assemble(
    out: str | Path, *, htsat: str | Path, clap: str | Path, bart: str | Path = BART, size: str = "base", seed: int = 0
) -> bool:
    """Writes `out`, a folder for `AutoCap.from_pretrained`; returns whether CLAP's text branch went to `out`/clap_text.

    `htsat`, `clap`: official checkpoints. `bart`: a folder or hub id with model.safetensors and the tokenizer. `size`:
    of `SIZES`. Q-Former, projections and positions are random, of `seed`; tags begin as BART's <s> and </s>.
    Raises ModelFilesError, before anything is written, that names the file and the tensor that is missing or misfits.
    """
    clap_tensors = read_checkpoint(clap).tensors
    bart_tensors = files.read_weights(files.find(bart, [files.WEIGHTS]) / files.WEIGHTS)
    sources = (
        (htsat, _renamed(read_checkpoint(htsat).tensors, _HTSAT_PREFIXES, PRETRAINED[0])),
        (clap, _renamed(clap_tensors, _CLAP_PREFIXES, PRETRAINED[1])),
        (bart, _renamed(bart_tensors, _BART_PREFIXES, PRETRAINED[2])),
    )
    bpe = read_bart_tokenizer(bart)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoCap(SIZES[size], bpe)
        except ValueError as error:
            raise ModelFilesError(f"{bart}: {error}") from error
        own = model.state_dict()
        for (source, tensors), part in zip(sources, PRETRAINED, strict=True):
            try:
                state, _ = from_official(tensors, model.config, (part,))
            except ModelFilesError as error:
                raise ModelFilesError(f"{source}: {error}") from error
            for name, tensor in state.items():
                if tensor.shape != own[name].shape:
                    raise ModelFilesError(
                        f"{source}: the tensor for {name} has shape {tuple(tensor.shape)}, but for size {size!r} it "
                        f"should be {tuple(own[name].shape)}"
                    )
            model.load_state_dict(state, strict=False)
        model.start_from_bart()
    text = clap_text(clap_tensors, bpe)
    model.save_pretrained(out)
    if text is not None:
        text.save_pretrained(Path(out) / TEXT_FOLDER)
    return text is not None


def _renamed(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], official: str) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for prefix in prefixes:
            name = name.removeprefix(prefix)
        renamed[official + name] = tensor
    return renamed
