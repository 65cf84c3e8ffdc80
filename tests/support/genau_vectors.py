"""The official model's numbers, where they lie beside the checkout, and the recipe that fills weights and inputs."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.places import SHARED


class Vectors:
    """Skips the test where the folder is not there."""

    def __init__(self) -> None:
        folder = SHARED / "parity"
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there")
        self._recipe = _module(folder / "genau_recipe.py")
        self._numbers = np.load(folder / "genau-small.npz")
        self.shapes: dict[str, Any] = json.loads((SHARED / "facts" / "genau-state-dict.json").read_text())

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self._numbers[name]))

    def normal(self, name: str, *shape: int) -> Tensor:
        """The recipe's numbers of this name."""
        return torch.from_numpy(self._recipe.normal(name, shape))

    def input(self, name: str, *shape: int) -> Tensor:
        return self.normal(f"input.{name}", *shape)

    def fill(self, own: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """Weights by their official names, filled by the recipe. Those without dimensions stay what they are."""
        filled = {}
        for name, like in own.items():
            value = torch.from_numpy(self._recipe.fill(prefix + name, like.shape)) if like.ndim else like.clone()
            filled[prefix + name] = value
        return filled


def shapes_of(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, list[int]]:
    return {prefix + name: list(tensor.shape) for name, tensor in state.items()}


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
