"""What a training will need, before it starts: memory per GPU, speed, hours, data to read, cost.

Each number says where it comes from:

    exact       follows from the settings: parameters, optimiser, operations (of GenAu), steps
    counted     one step on tensors without data ("fake"), whose sizes are added up
    estimated   a rule of thumb, named beside it
    assumed     a guess that an option replaces
"""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autorecap.base.errors import ForeseenError
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.hardware import GPUS, Hardware, cpu
from autorecap.training.loop.processes import BUCKET

MFU = 0.4
"""Assumed share of the peak. Runs log what they reach."""
PASSING = 0.15
"""Estimated share, of what is kept for backward, that is at work beside it while the backward pass runs."""
RUNTIME_GB = {"cuda": 1.0, "cpu": 0.5}  # estimated: libraries and their buffers, before the model
MOMENTS = 2  # numbers per weight that adam, adamw and lamb keep
_STEP_SHARE = {"adam": 1.0, "adamw": 1.0, "lamb": 0.0}  # of the weights, that the optimiser's step takes for itself
_LAMB_STEP = 2 * 2**28 * 4  # bytes: its chunks are bounded (`lamb`)


class PlanError(ForeseenError):
    """No plan can be made of this. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a step of a model asks of one GPU: its micro-batch, forward and backward."""

    model: str
    learned: int  # parameters
    frozen: int  # parameters and buffers that do not learn, in fp32
    samples: int  # in the micro-batch
    kept_bytes: int  # for the backward pass
    flops: int
    flops_are: str = "counted"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What it is trained on."""

    hardware: Hardware
    count: int = 1
    mfu: float = MFU
    usd_per_hour: float = 0.0  # per GPU; 0: not told


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The data: of an epoch."""

    samples: int
    bytes: int


@dataclass(frozen=True)
class Line:
    """One number of a plan."""

    what: str
    value: str
    how: str
    number: float


@dataclass(frozen=True)
class Plan:
    """What is to be expected."""

    title: str
    sections: dict[str, list[Line]]

    def __getitem__(self, what: str) -> float:
        return next(line.number for lines in self.sections.values() for line in lines if line.what == what)

    def __str__(self) -> str:
        lines = [line for section in self.sections.values() for line in section]
        wide, long = max(len(line.what) for line in lines), max(len(line.value) for line in lines)
        text = [self.title]
        for name, section in self.sections.items():
            text += ["", name, *(f"  {each.what:<{wide}}  {each.value:>{long}}  {each.how}" for each in section)]
        return "\n".join(text)


# --- counting a step


@contextmanager
def fake() -> Iterator[None]:
    """Tensors that are made within have sizes and no data: a model of any size takes no memory and no time."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def count(
    model: str, module: nn.Module, turns: Sequence[Callable[[], torch.Tensor]], samples: int, *, bf16: bool
) -> Load:
    """The load of a micro-batch. `turns`: of each player, what makes its loss by `module`; of fake tensors."""
    own = {p.untyped_storage()._cdata for p in (*module.parameters(), *module.buffers())}
    module.train()
    learned = sum(p.numel() for p in module.parameters() if p.requires_grad)
    every = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    # Fused attention is not counted on a CPU; written out it is, and its products are the same.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for turn in turns:
            with _autocast(bf16):
                loss = turn()
            loss.backward()
    return Load(
        model=model,
        learned=learned,
        frozen=every - learned,
        samples=samples,
        kept_bytes=max(_kept_bytes(turn, own, bf16) for turn in turns),
        flops=counter.get_total_flops(),
    )


def _kept_bytes(turn: Callable[[], torch.Tensor], own: Container[int], bf16: bool) -> int:
    """Bytes of the tensors that the backward pass will need. `own`: storages that are there anyway."""
    kept: dict[int, torch.UntypedStorage] = {}  # storages, so that views count once; kept alive, so that ids are theirs

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


# --- the plan


def make_plan(
    load: Load,
    loop: LoopConfig,
    cluster: Cluster,
    reading: Reading | None = None,
) -> Plan:
    """The plan of a run of `loop` (resolved: its steps are numbers) on a cluster."""
    return Plan(
        f"{load.model}: {load.learned:,} parameters learn, {load.frozen:,} are frozen; on {cluster.count} x "
        f"{cluster.hardware.name}",
        {
            "Memory of each" if cluster.count > 1 else "Memory": _memory(load, loop, cluster),
            "Speed": _speed(load, loop, cluster),
            "The run": _run(load, loop, cluster, reading),
        },
    )


def _memory(load: Load, loop: LoopConfig, cluster: Cluster) -> list[Line]:
    sharded = loop.sharding == "fsdp" and cluster.count > 1
    parts = cluster.count if sharded else 1
    weights = 4 * load.learned / parts
    how = f"exact: fp32, a share of 1/{parts}" if sharded else "exact: fp32"
    on_gpu = cluster.hardware.memory_gb > 0
    found = [
        _bytes("weights", weights, how),
        _bytes("gradients", weights, how),
        _bytes("optimiser", MOMENTS * weights, f"{how}, {MOMENTS} numbers per weight"),
    ]
    if loop.ema_decay:
        found.append(_bytes("moving average", weights, how))
    if load.frozen:
        found.append(_bytes("frozen", 4 * load.frozen, "exact: fp32, whole"))
    if cluster.count > 1 and not sharded:
        found.append(_bytes("exchange of gradients", min(weights, 4 * BUCKET), "exact: in buckets"))
    own_step = _LAMB_STEP if loop.optimizer == "lamb" else 0.0
    own_step = min(own_step, 2 * weights) + _STEP_SHARE[loop.optimizer] * weights
    passing = load.kept_bytes * PASSING
    peak = sum(line.number for line in found) * 1e9 + max(load.kept_bytes + passing, own_step)
    peak += RUNTIME_GB["cuda" if on_gpu else "cpu"] * 1e9
    found += [
        _bytes("kept for backward", load.kept_bytes, f"counted: {load.samples} clips at once (loop.micro_batch_size)"),
        _bytes("at work beside it", passing, f"estimated: {PASSING:.0%} of what is kept"),
        _bytes("libraries", RUNTIME_GB["cuda" if on_gpu else "cpu"] * 1e9, "estimated"),
        _bytes("peak", peak, "estimated: the sum" + _fits(peak, cluster.hardware)),
    ]
    return found


def _fits(peak: float, hardware: Hardware) -> str:
    if not hardware.memory_gb:
        return ""
    if peak > 0.95 * hardware.memory_gb * 1e9:
        return (
            f"; MORE THAN the {hardware.memory_gb:g} GB there are: a smaller loop.micro_batch_size gives the same "
            "result"
        )
    return f"; of {hardware.memory_gb:g} GB"


def _peak(loop: LoopConfig, cluster: Cluster) -> tuple[float, str]:
    """Operations a second of the whole cluster, and where that is from."""
    hardware = cluster.hardware
    if hardware.measured:
        return cluster.count * hardware.peak_flops, "measured here in fp32"
    if loop.precision == "fp32" and hardware.peak_fp32_flops:
        return cluster.count * hardware.peak_fp32_flops, "data sheet, fp32"
    return cluster.count * hardware.peak_flops, "data sheet, bf16"


def _speed(load: Load, loop: LoopConfig, cluster: Cluster) -> list[Line]:
    each = load.flops / load.samples
    peak, source = _peak(loop, cluster)
    rate = peak * cluster.mfu / each
    return [
        Line(
            "operations per clip",
            f"{each / 1e12:,.3g} TFLOP",
            f"{load.flops_are}: products, forward and backward",
            each,
        ),
        Line("peak", f"{peak / 1e12:,.4g} TFLOP/s", source, peak),
        Line("clips a second", f"{rate:,.3g}", f"estimated: {cluster.mfu:.0%} of the peak, assumed (--mfu)", rate),
    ]


def _run(load: Load, loop: LoopConfig, cluster: Cluster, reading: Reading | None) -> list[Line]:
    clips = loop.steps * loop.batch_size
    seconds = clips * load.flops / load.samples / (_peak(loop, cluster)[0] * cluster.mfu)
    hours = seconds / 3_600
    found = [
        Line("steps", f"{loop.steps:,}", f"exact: of {loop.batch_size:,} clips", loop.steps),
        Line("hours", f"{hours:,.3g}", "estimated: at that speed, without validation and checkpoints", hours),
    ]
    if reading is not None and reading.samples:
        total = reading.bytes / reading.samples * clips
        rate = total / seconds
        epochs = clips / reading.samples
        found += [
            Line("epochs", f"{epochs:,.3g}", f"exact: {reading.samples:,} clips", epochs),
            _bytes("read", total, f"counted: {reading.bytes / reading.samples / 1e3:,.3g} kB a clip, as stored"),
            Line("read a second", f"{rate / 1e6:,.3g} MB", "estimated: at that speed, over all machines", rate),
        ]
    gpu_hours = hours * cluster.count
    found.append(
        Line("GPU-hours" if cluster.hardware.memory_gb else "CPU-hours", f"{gpu_hours:,.3g}", "estimated", gpu_hours)
    )
    if cluster.usd_per_hour:
        usd = gpu_hours * cluster.usd_per_hour
        figure = f"{usd:,.0f} USD" if usd >= 100 else f"{usd:.2f} USD"
        found.append(Line("cost", figure, f"at {cluster.usd_per_hour:g} USD an hour each", usd))
    return found


def _bytes(what: str, number: float, how: str) -> Line:
    gb = number / 1e9
    return Line(what, f"{gb:,.2f} GB" if gb >= 0.1 else f"{1e3 * gb:,.1f} MB", how, gb)


def cluster_of(name: str, count: int, mfu: float, usd_per_hour: float) -> Cluster:
    """By a name in `GPUS`, or `cpu` for the threads of this process. Raises PlanError."""
    if name.lower() == "cpu":
        hardware = cpu()
    elif name.lower() in GPUS:
        hardware = GPUS[name.lower()]
    else:
        raise PlanError(f"--hardware {name}: choose one of cpu, {', '.join(GPUS)}")
    if not 0 < mfu <= 1:
        raise PlanError(f"--mfu {mfu}: a share from above 0 to 1")
    return Cluster(hardware=hardware, count=count, mfu=mfu, usd_per_hour=usd_per_hour)
