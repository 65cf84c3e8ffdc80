"""Forecast of a training's resources, before it starts: memory per GPU, speed, hours, data to read, cost.

Each number says where it comes from:

    exact       follows from the settings: parameters, optimiser, operations (of GenAu), steps
    counted     from one step on tensors without data (`step_load`)
    estimated   a rule of thumb, named beside it
    assumed     a guess that an option replaces
"""

from dataclasses import dataclass

from autorecap.base.errors import ForeseenError
from autorecap.training.forecast.step_load import StepLoad
from autorecap.training.loop import lamb
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.hardware import GPUS, Hardware, cpu
from autorecap.training.loop.processes import BUCKET

MFU = 0.4
"""Assumed share of the peak speed. Runs log the share that they reach."""
BACKWARD_SHARE = 0.15
"""Estimated working memory of the backward pass, as a share of what is kept for it."""
RUNTIME_GB = {"cuda": 1.0, "cpu": 0.5}  # estimated: libraries and their buffers, without the model
MOMENTS = 2  # numbers per weight that adam, adamw and lamb keep
_STEP_SHARE = {"adam": 1.0, "adamw": 1.0, "lamb": 0.0}  # working memory of the optimiser, as a share of the weights
_USABLE_SHARE = 0.95  # estimated: of a GPU's memory; fragments of it, too small for a tensor, take the rest
_LAMB_STEP = 2 * lamb.CHUNK * 4  # bytes: what a step needs is bounded by its chunks


class ForecastError(ForeseenError):
    """No forecast can be made of these arguments. The message says why."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The processors of a training."""

    hardware: Hardware
    count: int = 1
    mfu: float = MFU
    usd_per_hour: float = 0.0  # per GPU; 0: unknown


@dataclass(frozen=True, kw_only=True)
class EpochData:
    """The data of one epoch."""

    num_clips: int
    num_bytes: int  # as stored


@dataclass(frozen=True)
class Line:
    """One number of a forecast."""

    name: str
    text: str  # the number with its unit
    origin: str  # where it comes from: begins with exact, counted, estimated, ...
    number: float  # GB, hours, ...


@dataclass(frozen=True)
class Forecast:
    """The forecast of a run, as lines under headings; as text it is a table."""

    title: str
    sections: dict[str, list[Line]]

    def __getitem__(self, name: str) -> float:
        return next(line.number for lines in self.sections.values() for line in lines if line.name == name)

    def __str__(self) -> str:
        lines = [line for section in self.sections.values() for line in section]
        name_width, text_width = max(len(line.name) for line in lines), max(len(line.text) for line in lines)
        text = [self.title]
        for name, section in self.sections.items():
            text += ["", name]
            text += [f"  {line.name:<{name_width}}  {line.text:>{text_width}}  {line.origin}" for line in section]
        return "\n".join(text)


def make_forecast(load: StepLoad, loop: LoopConfig, cluster: Cluster, data: EpochData | None = None) -> Forecast:
    """Return the forecast of a run on a cluster. loop: resolved settings, whose steps are known"""
    return Forecast(
        f"{load.model}: {load.num_trained:,} parameters learn, {load.num_frozen:,} are frozen; on {cluster.count} x "
        f"{cluster.hardware.name}",
        {
            "Memory of each" if cluster.count > 1 else "Memory": _memory(load, loop, cluster),
            "Speed": _speed(load, loop, cluster),
            "The run": _run(load, loop, cluster, data),
        },
    )


def _memory(load: StepLoad, loop: LoopConfig, cluster: Cluster) -> list[Line]:
    sharded = loop.sharding == "fsdp" and cluster.count > 1
    parts = cluster.count if sharded else 1
    weights = 4 * load.num_trained / parts
    origin = f"exact: fp32, a share of 1/{parts}" if sharded else "exact: fp32"
    on_gpu = cluster.hardware.memory_gb > 0
    lines = [
        _bytes("weights", weights, origin),
        _bytes("gradients", weights, origin),
        _bytes("optimiser", MOMENTS * weights, f"{origin}, {MOMENTS} numbers per weight"),
    ]
    if loop.ema_decay:
        lines.append(_bytes("moving average", weights, origin))
    if load.num_frozen:
        lines.append(_bytes("frozen", 4 * load.num_frozen, "exact: fp32, whole"))
    if cluster.count > 1 and not sharded:
        lines.append(_bytes("exchange of gradients", min(weights, 4 * BUCKET), "exact: in buckets"))
    step = _LAMB_STEP if loop.optimizer == "lamb" else 0.0
    step = min(step, 2 * weights) + _STEP_SHARE[loop.optimizer] * weights
    backward = load.kept_bytes * BACKWARD_SHARE
    libraries = RUNTIME_GB["cuda" if on_gpu else "cpu"] * 1e9
    peak = sum(line.number for line in lines) * 1e9 + max(load.kept_bytes + backward, step) + libraries
    num_clips = f"{load.num_clips} clips at once (loop.micro_batch_size)"
    return [
        *lines,
        _bytes("kept for backward", load.kept_bytes, f"counted: {num_clips}"),
        _bytes("backward pass", backward, f"estimated: {BACKWARD_SHARE:.0%} of what is kept for it"),
        _bytes("libraries", libraries, "estimated"),
        _bytes("peak", peak, "estimated: the sum" + _room(peak, cluster.hardware)),
    ]


def _room(peak: float, hardware: Hardware) -> str:
    """Return how the peak compares with the memory of the hardware, if that is known."""
    if not hardware.memory_gb:
        return ""
    if peak > _USABLE_SHARE * hardware.memory_gb * 1e9:
        return (
            f"; MORE THAN the {hardware.memory_gb:g} GB there are: a smaller loop.micro_batch_size gives the same "
            "result"
        )
    return f"; of {hardware.memory_gb:g} GB"


def _peak(loop: LoopConfig, cluster: Cluster) -> tuple[float, str]:
    """Return the operations per second of the whole cluster, and where that number comes from."""
    hardware = cluster.hardware
    if hardware.measured:
        return cluster.count * hardware.peak_flops, "measured here in fp32"
    if loop.precision == "fp32" and hardware.peak_fp32_flops:
        return cluster.count * hardware.peak_fp32_flops, "data sheet, fp32"
    return cluster.count * hardware.peak_flops, "data sheet, bf16"


def _speed(load: StepLoad, loop: LoopConfig, cluster: Cluster) -> list[Line]:
    flops_per_clip = load.flops / load.num_clips
    peak, origin = _peak(loop, cluster)
    rate = peak * cluster.mfu / flops_per_clip
    return [
        Line(
            "operations per clip",
            f"{flops_per_clip / 1e12:,.3g} TFLOP",
            f"{load.flops_origin}: products, forward and backward",
            flops_per_clip,
        ),
        Line("peak", f"{peak / 1e12:,.4g} TFLOP/s", origin, peak),
        Line("clips a second", f"{rate:,.3g}", f"estimated: {cluster.mfu:.0%} of the peak, assumed (--mfu)", rate),
    ]


def _run(load: StepLoad, loop: LoopConfig, cluster: Cluster, data: EpochData | None) -> list[Line]:
    clips = loop.steps * loop.batch_size
    seconds = clips * load.flops / load.num_clips / (_peak(loop, cluster)[0] * cluster.mfu)
    hours = seconds / 3_600
    lines = [
        Line("steps", f"{loop.steps:,}", f"exact: of {loop.batch_size:,} clips", loop.steps),
        Line("hours", f"{hours:,.3g}", "estimated: at that speed, without validation and checkpoints", hours),
    ]
    if data is not None and data.num_clips:
        bytes_per_clip = data.num_bytes / data.num_clips
        total = bytes_per_clip * clips
        rate = total / seconds
        epochs = clips / data.num_clips
        lines += [
            Line("epochs", f"{epochs:,.3g}", f"exact: {data.num_clips:,} clips", epochs),
            _bytes("read", total, f"counted: {bytes_per_clip / 1e3:,.3g} kB a clip, as stored"),
            Line("read a second", f"{rate / 1e6:,.3g} MB", "estimated: at that speed, over all machines", rate),
        ]
    gpu_hours = hours * cluster.count
    lines.append(
        Line("GPU-hours" if cluster.hardware.memory_gb else "CPU-hours", f"{gpu_hours:,.3g}", "estimated", gpu_hours)
    )
    if cluster.usd_per_hour:
        usd = gpu_hours * cluster.usd_per_hour
        text = f"{usd:,.0f} USD" if usd >= 100 else f"{usd:.2f} USD"
        lines.append(Line("cost", text, f"at {cluster.usd_per_hour:g} USD an hour each", usd))
    return lines


def _bytes(name: str, num_bytes: float, origin: str) -> Line:
    gb = num_bytes / 1e9
    return Line(name, f"{gb:,.2f} GB" if gb >= 0.1 else f"{1e3 * gb:,.1f} MB", origin, gb)


def cluster_of(name: str, count: int, mfu: float, usd_per_hour: float) -> Cluster:
    """Return a cluster of the hardware that `--hardware` names: one of `GPUS`, or `cpu`, the threads of this process.

    Raises ForecastError.
    """
    if name.lower() == "cpu":
        hardware = cpu()
    elif name.lower() in GPUS:
        hardware = GPUS[name.lower()]
    else:
        raise ForecastError(f"--hardware: expected cpu, {', '.join(GPUS)}, found {name!r}")
    if not 0 < mfu <= 1:
        raise ForecastError(f"--mfu: expected a share above 0, up to 1, found {mfu}")
    return Cluster(hardware=hardware, count=count, mfu=mfu, usd_per_hour=usd_per_hour)
