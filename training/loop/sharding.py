"""FSDP2: weights, gradients and optimiser state are split over the processes of a run (`loop.sharding: fsdp`).

Weights stay fp32 and are gathered as fp32. bf16 comes from autocast, as on one GPU, so sharding changes the memory and
not the numbers.
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
    """Split weights over all processes. units: modules whose weights are gathered together, the outermost last"""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in units:
        fully_shard(unit, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor; a tensor that is not sharded is returned as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor on the CPU. All processes must call this."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()


def unshard(module: nn.Module) -> None:
    """Replace sharded weights by whole ones on the CPU, to save them. All processes must call this, after training."""
    for owner in module.modules():
        for name, p in list(owner.named_parameters(recurse=False)):
            if isinstance(p, DTensor):
                setattr(owner, name, nn.Parameter(whole(p), requires_grad=p.requires_grad))
