"""Official tensors are taken over where a module of ours has one of the same name and shape."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor


def take(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Returns the tensors with the names of `own`. Raises ValueError that names a missing, misshapen or NaN one."""
    state = {}
    for name, like in own.items():
        if name not in tensors:
            raise ValueError(f"official {what}: {name} is missing: these are not weights of this size")
        tensor = tensors[name]
        if tensor.shape != like.shape:
            raise ValueError(
                f"official {what}: {name} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}: "
                "these are not weights of this size"
            )
        if not tensor.is_floating_point() and like.is_floating_point():
            raise ValueError(f"official {what}: {name} holds {tensor.dtype}, expected floating point numbers")
        if not bool(torch.isfinite(tensor.to(like.dtype)).all()):  # float64 may hold more than float32 can
            raise ValueError(f"official {what}: {name} holds NaN or infinity: the file is damaged, fetch it again")
        state[name] = tensor
    return state


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def by_reason(names: Iterable[str], why: Callable[[str], str]) -> dict[str, list[str]]:
    """Returns the names of tensors that are not used, grouped by the reason that `why` gives for each."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(why(name), []).append(name)
    return grouped


def shape_of(tensors: Mapping[str, Tensor], name: str, what: str, ndim: int) -> torch.Size:
    """Returns a tensor's shape. Raises ValueError where it is missing, empty, or not of `ndim` dimensions."""
    if name not in tensors:
        raise ValueError(f"official {what}: {name} is missing: these are not {what} weights")
    shape = tensors[name].shape
    if len(shape) != ndim or 0 in shape:
        raise ValueError(f"official {what}: {name} has shape {tuple(shape)}, expected {ndim} dimensions, none empty")
    return shape


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Counts how many of `pattern.format(0)`, `pattern.format(1)`, ... there are.

    Raises ValueError where one is missing and other tensors of its part, or of later ones, are there: nobody wants a
    smaller model made of what is left of a larger one.
    """
    prefix, _, suffix = pattern.partition("{}.")
    part, _, more = suffix.partition(".")
    indices = set()
    for name in tensors:
        index, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and index.isdecimal() and (not more or rest.partition(".")[0] == part):
            indices.add(int(index))
    number = 0
    while pattern.format(number) in tensors:
        number += 1
    if beyond := [index for index in indices if index >= number]:
        raise ValueError(f"{pattern.format(number)} is missing, but there are tensors with number {max(beyond)}")
    return number
