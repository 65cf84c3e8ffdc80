"""Peak speed and memory of processors, from their data sheets; MFU and forecasts are computed from them."""

import re
import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hardware:
    """One GPU, or the CPU threads of a process."""

    name: str
    peak_flops: float  # per second: dense matrix products in bf16 with sums in fp32; of a CPU in fp32
    memory_gb: float  # 0: unknown
    peak_fp32_flops: float = 0.0  # per second in fp32 without tensor cores; 0: unknown
    measured: bool = False  # by a product of matrices on this machine, for want of a data sheet


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
"""By name in lower case. Speeds are without sparsity, and those of the SXM version if there are several."""

_SIZE, _ROUNDS = 768, 5


def of_device(device: torch.device) -> Hardware | None:
    """Return the hardware of this device; None for a GPU that is not in the table."""
    if device.type != "cuda":
        return cpu()
    words = set(re.split(r"[^a-z0-9]+", torch.cuda.get_device_name(device).lower()))
    return next((gpu for name, gpu in GPUS.items() if name in words), None)


def cpu() -> Hardware:
    """Measure the CPU threads of this process: the best of a few matrix products in fp32."""
    a = torch.randn(_SIZE, _SIZE)
    best_s = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        a @ a
        best_s = min(best_s, time.perf_counter() - started)
    threads = torch.get_num_threads()
    return Hardware(f"CPU, {threads} thread{'s' if threads > 1 else ''}", 2 * _SIZE**3 / best_s, 0, measured=True)
