"""Choosing from official tensors those that a module of ours has under the same name."""

from collections.abc import Mapping

import torch
from torch import Tensor


def take(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """The tensors with the names of `own`. Raises ValueError that names one that is missing, misshapen or holds NaN."""
    state = {}
    for name, like in own.items():
        if name not in tensors:
            raise ValueError(f"official {what}: {name} is missing: these are no weights of this size")
        tensor = tensors[name]
        if tensor.shape != like.shape:
            raise ValueError(
                f"official {what}: {name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}: "
                "these are no weights of this size"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"official {what}: {name} holds NaN or infinity: the file is damaged, fetch it again")
        state[name] = tensor
    return state


def shape_of(tensors: Mapping[str, Tensor], name: str, what: str, ndim: int) -> torch.Size:
    """A tensor's shape. Raises ValueError where it is missing, empty, or not of `ndim` dimensions."""
    if name not in tensors:
        raise ValueError(f"official {what}: {name} is missing: these are no {what} weights")
    shape = tensors[name].shape
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"official {what}: {name} has shape {tuple(shape)}, expected {ndim} dimensions, none empty")
    return shape


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many of `pattern.format(0)`, `pattern.format(1)`, ... there are."""
    number = 0
    while pattern.format(number) in tensors:
        number += 1
    return number
