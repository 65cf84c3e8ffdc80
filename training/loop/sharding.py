"""FSDP2: weights, gradients and optimiser state split over the processes of a run (`loop.sharding: fsdp`).

Weights stay fp32 and are gathered as such; bf16 comes of autocast, as it does on one GPU, so sharding changes memory
and not the numbers.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

SHARDINGS = ("ddp", "fsdp")


def shard(units: Iterable[nn.Module], device: torch.device) -> None:
    """Split weights over all processes. `units`: modules whose weights are gathered together, the outermost last."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in units:
        fully_shard(unit, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """The piece of this process; a whole tensor is its own piece."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor as one, on the CPU. All processes must ask."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def unshard(module: nn.Module) -> None:
    """Put whole weights in place of the pieces, on the CPU, to be saved. All processes must ask; training is over."""
    for owner in module.modules():
        for name, p in list(owner.named_parameters(recurse=False)):
            if isinstance(p, DTensor):
                setattr(owner, name, nn.Parameter(whole(p), requires_grad=p.requires_grad))
