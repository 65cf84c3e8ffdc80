"""Load of a training step on one GPU: parameters, operations, and what is kept for the backward pass.

They are counted by one step on tensors without data ("fake"), so a model of any size takes no memory and little time.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class StepLoad:
    """What one GPU holds and computes for a micro-batch, forward and backward."""

    model: str
    num_trained: int  # parameters
    num_frozen: int  # parameters and buffers that are not trained, in fp32
    num_clips: int  # in the micro-batch
    kept_bytes: int  # for the backward pass
    flops: int
    flops_origin: str = "counted"  # or "exact"


@contextmanager
def fake() -> Iterator[None]:
    """Within, new tensors have sizes and no data: a model of any size takes no memory and no time."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def count_load(
    model: str, module: nn.Module, turns: Sequence[Callable[[], torch.Tensor]], num_clips: int, *, bf16: bool
) -> StepLoad:
    """Count the load of a micro-batch.

    module: of fake tensors, with all parameters that the step uses
    turns: one function per player, which computes its loss with `module`
    """
    own = {p.untyped_storage()._cdata for p in (*module.parameters(), *module.buffers())}
    module.train()
    num_trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    num_all = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    # torch does not count fused attention on a CPU. Written out it is counted, and has the same products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for turn in turns:
            with _autocast(bf16):
                loss = turn()
            loss.backward()
    return StepLoad(
        model=model,
        num_trained=num_trained,
        num_frozen=num_all - num_trained,
        num_clips=num_clips,
        kept_bytes=max(_kept_bytes(turn, own, bf16) for turn in turns),
        flops=counter.get_total_flops(),
    )


def _kept_bytes(turn: Callable[[], torch.Tensor], own: Container[int], bf16: bool) -> int:
    """Return the bytes of the tensors that are kept for the backward pass. own: storages of the module itself"""
    kept: dict[int, torch.UntypedStorage] = {}  # storages: views count once; held, so that addresses stay

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _autocast(bf16):
        turn()
    return sum(storage.nbytes() for storage in kept.values())


def _autocast(bf16: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=bf16)
