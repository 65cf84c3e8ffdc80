"""Numbers of the official GenAu code, and the recipe that filled its weights and inputs (tests/vectors/README.md).

Every tensor comes from a generator that its official name seeds, so whoever knows the names has the same weights.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.support.places import VECTORS


def normal(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the recipe's float32 numbers of this name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    numbers = np.random.Generator(np.random.PCG64(seed)).standard_normal(math.prod(shape))
    return numbers.reshape(shape).astype(np.float32)


def fill(key: str, shape: Sequence[int]) -> np.ndarray:
    """Return the values of the official tensor `key`, which has at least one dimension."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "beta":  # a buffer of the official LayerNorm, always zero
        return np.zeros(shape, np.float32)
    n = normal(key, shape)
    if leaf == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif len(shape) >= 2:
        n = n / np.sqrt(np.prod(shape[1:]))
    elif leaf in ("weight", "gamma"):
        n = 1 + 0.1 * n
    else:
        n = 0.1 * n
    return n.astype(np.float32)


class Vectors:
    """The numbers by name, and the shapes of the official state dicts by section."""

    def __init__(self) -> None:
        self._numbers = np.load(VECTORS / "parity" / "genau-small.npz")
        self.shapes: dict[str, dict[str, list[int]]] = json.loads(
            (VECTORS / "parity" / "genau-shapes.json").read_text()
        )

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self._numbers[name]))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return the recipe's numbers of this name."""
        return torch.from_numpy(normal(name, shape))

    def input(self, name: str, *shape: int) -> Tensor:
        return self.normal(f"input.{name}", *shape)

    def fill(self, own: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """Return weights by their official names, filled by the recipe. Those without dimensions stay as they are."""
        filled = {}
        for name, like in own.items():
            value = torch.from_numpy(fill(prefix + name, like.shape)) if like.ndim else like.clone()
            filled[prefix + name] = value
        return filled


def shapes_of(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, list[int]]:
    return {prefix + name: list(tensor.shape) for name, tensor in state.items()}
