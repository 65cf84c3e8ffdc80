"""What processors can do, as their makers' data sheets have it: the measure of MFU, and of plans."""

import re
import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hardware:
    """One GPU, or the CPU that a process has."""

    name: str
    peak_flops: float  # a second: dense products of bf16 that sum in fp32; of fp32 for a CPU
    memory_gb: float  # 0: unknown
    peak_fp32_flops: float = 0.0  # of fp32 as it is, without tensor cores; 0: unknown
    measured: bool = False  # here, by a product of matrices, where no data sheet says it


GPUS: dict[str, Hardware] = {
    gpu.name.lower(): gpu
    for gpu in (
        Hardware("B200", 2_250e12, 180, 80e12),
        Hardware("H200", 989e12, 141, 67e12),
        Hardware("H100", 989e12, 80, 67e12),
        Hardware("A100", 312e12, 80, 19.5e12),
        Hardware("L40S", 362e12, 48, 91.6e12),
        Hardware("L4", 121e12, 24, 30.3e12),
    )
}
"""By name in lower case. Without sparsity; the SXM version where there are several."""

_SIZE, _ROUNDS = 768, 5


def of_device(device: torch.device) -> Hardware | None:
    """What a process that trains on this device has; None for a GPU that is not known."""
    if device.type != "cuda":
        return cpu()
    words = set(re.split(r"[^a-z0-9]+", torch.cuda.get_device_name(device).lower()))
    return next((gpu for name, gpu in GPUS.items() if name in words), None)


def cpu() -> Hardware:
    """This process's CPU threads, measured: the best of a few products of matrices in fp32."""
    a = torch.randn(_SIZE, _SIZE)
    best_s = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        a @ a
        best_s = min(best_s, time.perf_counter() - started)
    threads = torch.get_num_threads()
    return Hardware(f"CPU, {threads} thread{'s' if threads > 1 else ''}", 2 * _SIZE**3 / best_s, 0, measured=True)
