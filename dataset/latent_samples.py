"""Datasets of kind `latents`: what a VAE and text encoders make of the clips of another dataset, under the same keys.

A sample is `<key>.json` and `<key>.safetensors`, with the arrays

    mean, logvar    (C, T), the posterior of each latent frame; a long clip's pieces follow one another
    summary         (W,) the caption as one vector, where the model takes one
    words           (N, D) the caption's words one by one, where it takes them
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from autorecap.dataset.schemas import INDEX_SCHEMA
from autorecap.dataset.shard import Sample

EXTENSION = "safetensors"
DTYPES = {"fp16": np.float16, "fp32": np.float32}

_PLACES = ("shard", "offset", "size", "json_offset", "json_size")


def sample_of_latent(row: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Sample:
    """Return the sample of an encoded clip. `row`: its row in the index of the audio; `arrays`: as stored."""
    index = {name: value for name, value in row.items() if name in INDEX_SCHEMA.names and name not in _PLACES}
    index |= {"num_frames": int(arrays["mean"].shape[1]), "source_shard": row["shard"]}
    meta = json.dumps(index, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Sample(row["key"], save(arrays), meta.encode("utf-8", "replace"), index, EXTENSION)


def decode_latent(data: bytes, row: dict[str, Any]) -> None:
    """Check that a payload can be read back. Raises ValueError where it is not what its row says."""
    try:
        frames = load(data)["mean"].shape[1]
    except Exception as error:  # of safetensors: its own, without a common base that it names
        raise ValueError(f"cannot be read back: {error}") from error
    if frames != row["num_frames"]:
        raise ValueError(f"has {frames} latent frames, not {row['num_frames']}")
