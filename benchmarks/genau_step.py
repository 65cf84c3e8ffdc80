"""What GenAu's backbone costs: the forward pass against plain attention, a training step, and sampling.

    python -m benchmarks.genau_step [--parts forward,train,sample] [--device cuda] [--size l] [--batch 64]

It needs torch, transformers and einops alone. Without options: on a GPU a training step of FIT-L in bf16 and its
sampler; on a CPU the forward pass of two sizes, and the rest with the demo size, which shows that it runs and not how
fast it could.

    forward   our attention (`scaled_dot_product_attention`) and the same model with attention written out, in turns
    train     forward, backward, clipping and LAMB's step: milliseconds each, and the share of the GPU's peak
    sample    DDIM with guidance, both halves in one batch
    --profile says which kernels the time of a training step goes to
"""

import argparse
import math
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
import transformers
from einops import rearrange
from torch import Tensor, nn

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.backbones.groups import Groups
from autorecap.models.genau.backbones.layers import Attention
from autorecap.models.genau.flops import flops
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.sampling.guidance import Guided
from autorecap.models.genau.sampling.samplers import ddim
from autorecap.models.genau.text.conditioning import Condition
from autorecap.training.loop.hardware import GPUS
from autorecap.training.loop.lamb import Lamb
from autorecap.training.loop.step_statistics import memory_gb

H200_BF16 = GPUS["h200"].peak_flops
FRAMES_PER_S = 25
GUIDANCE = 4.0
MAX_GRAD_NORM = 0.5  # as the official model is trained


# --- forward


class PlainAttention(Attention):
    """The reference: attention as two products and a softmax in between, as the official code has it."""

    def forward(
        self,
        x_NQW: Tensor,
        context_NKW: Tensor | None = None,
        mask_NK: Tensor | None = None,
        clips: Groups | None = None,
    ) -> Tensor:
        x_NQW = self.norm(x_NQW)
        context = x_NQW if context_NKW is None or self.context_norm is None else self.context_norm(context_NKW)
        query, key_value = self.query(x_NQW), self.key_value(context)
        if clips is not None:
            query = clips.unpack(query).flatten(1, 2)
            key_value = clips.unpack(key_value).flatten(1, 2) if context_NKW is None else key_value
        key, value = key_value.chunk(2, dim=-1)
        query, key, value = (rearrange(t, "n q (h d) -> n h q d", h=self.heads) for t in (query, key, value))
        similar = torch.einsum("nhqd,nhkd->nhqk", query, key) * query.shape[-1] ** -0.5
        if mask_NK is not None:
            similar = similar.masked_fill(~mask_NK[:, None, None], -math.inf)
        found = torch.einsum("nhqk,nhkd->nhqd", similar.softmax(dim=-1), value)
        found = rearrange(found, "n h q d -> n q (h d)")
        if clips is not None:
            found = clips.pack(found.unflatten(1, (clips.per_clip, -1)))
        return self.out(found)


@contextmanager
def plain_attention(model: nn.Module) -> Iterator[None]:
    """The same model and weights with the reference's attention."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    for module in attentions:
        module.__class__ = PlainAttention
    try:
        yield
    finally:
        for module in attentions:
            module.__class__ = Attention


@torch.inference_mode()
def compare_forward(size: str, batch: int, rounds: int, device: torch.device) -> None:
    """Print the times of both, taken in turns."""
    config = SIZES[size]
    model = Fit(config).to(device).eval()
    given = inputs(config, batch, device)
    ours = model(*given).eps
    with plain_attention(model):
        plain = model(*given).eps
    torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-3)

    times: dict[str, list[float]] = {"ours": [], "plain": []}

    def ours_once() -> None:
        times["ours"].append(seconds(partial(model, *given), device))

    def plain_once() -> None:
        with plain_attention(model):
            times["plain"].append(seconds(partial(model, *given), device))

    for i in range(rounds):  # who goes first changes, too
        for once in (ours_once, plain_once) if i % 2 else (plain_once, ours_once):
            once()
    # The best of many rounds: other load on the machine can only slow a round down.
    ours_s, plain_s = (min(times[name]) for name in ("ours", "plain"))
    gflops = flops(config, batch=batch) / 1e9
    print(
        f"forward  {size:>5}  batch {batch:>3}  ours {1e3 * ours_s:8.1f} ms  plain {1e3 * plain_s:8.1f} ms  "
        f"ratio {ours_s / plain_s:.3f}  {gflops / ours_s:5.0f} GFLOP/s  (best of {rounds} rounds each)"
    )


@torch.inference_mode()
def compare_durations(size: str, batch: int, rounds: int, device: torch.device) -> None:
    """Print what short clips cost: alone, and in a batch with long ones."""
    config = SIZES[size]
    model = Fit(config).to(device).eval()
    longest, short = config.max_frames, 2 * FRAMES_PER_S
    whole = -(-short // config.group_frames) * config.group_frames
    frames_B = torch.where(torch.arange(batch) % 2 == 0, short, longest)
    mixed_BT = torch.arange(longest) < frames_B[:, None]
    cases = {
        f"all of {longest / FRAMES_PER_S:.2f} s": (longest, None),
        f"all of {short / FRAMES_PER_S:.2f} s": (whole, (torch.arange(whole) < short).expand(batch, -1)),
        "half of each": (longest, mixed_BT),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, (frames, mask_BT) in cases.items():
            given = inputs(config, batch, device, frames)
            times[name].append(seconds(partial(model, *given, mask_BT=mask_BT), device))
    first = min(next(iter(times.values())))
    for name, each in times.items():
        print(f"durations {size:>4}  batch {batch:>3}  {name:>14}  {1e3 * min(each):8.1f} ms  {min(each) / first:.2f}x")


# --- training


class Clock:
    """Seconds between marks, per name; on a GPU by its own events, so that marking stops nothing."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.marks: list[tuple[str, Any]] = []  # with seconds, or an event

    def mark(self, name: str) -> None:
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((name, event))
        else:
            self.marks.append((name, time.perf_counter()))

    def spans(self) -> dict[str, list[float]]:
        """For each name, the seconds from the mark before. "start" has none."""
        if self.cuda:
            torch.cuda.synchronize()
        out: dict[str, list[float]] = {}
        for (_, before), (name, at) in zip(self.marks, self.marks[1:], strict=False):
            if name != "start":
                span = before.elapsed_time(at) / 1e3 if self.cuda else at - before
                out.setdefault(name, []).append(span)
        return out


def train(size: str, batch: int, rounds: int, device: torch.device, options: argparse.Namespace) -> None:
    """Print what a training step costs, part by part."""
    config = SIZES[size]
    model = Fit(config).to(device).train()
    model.checkpoint_activations(options.checkpointing)
    if options.compile:
        model.compile_blocks()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = Lamb(trained)
    diffusion = Diffusion()
    generator = torch.Generator(device).manual_seed(0)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    x0_BCT, _, text, ids_B = inputs(config, batch, device)
    clock = Clock(device)

    def step() -> None:
        clock.mark("start")
        noise_BCT = torch.randn(x0_BCT.shape, device=device, generator=generator)
        timesteps_B = diffusion.draw_timesteps(batch, generator)
        x_BCT = diffusion.q_sample(x0_BCT, noise_BCT, timesteps_B)
        with autocast:
            eps_BCT = model(x_BCT, timesteps_B, text, ids_B).eps
        loss = diffusion.loss(eps_BCT, x0_BCT, noise_BCT, timesteps_B)
        clock.mark("forward")
        loss.backward()
        clock.mark("backward")
        nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM, foreach=True)
        clock.mark("clipping")
        optimizer.step()
        optimizer.zero_grad()
        clock.mark("LAMB")

    began = time.perf_counter()
    for _ in range(3):  # compile, allocate
        step()
    clock.spans()
    start_s = time.perf_counter() - began
    clock.marks.clear()
    for _ in range(rounds):
        step()
    parts = {name: statistics.median(each) for name, each in clock.spans().items()}
    step_s = sum(parts.values())
    work = flops(config, batch=batch, backward=True)
    share = f", {work / step_s / H200_BF16:.1%} of {H200_BF16 / 1e12:.0f} TFLOP/s" if device.type == "cuda" else ""
    print(
        f"train    {size:>5}  batch {batch:>3}  {1e3 * step_s:.1f} ms a step, {batch / step_s:.1f} clips/s, "
        f"{work / step_s / 1e12:.2f} TFLOP/s{share}; {memory_gb(device):.1f} GB; first 3 steps {start_s:.0f} s"
    )
    for name, each in parts.items():
        print(f"  {name:>9} {1e3 * each:9.1f} ms  {each / step_s:6.1%}")
    if options.profile:
        profile(step, device)


KINDS = (  # of kernels and operators, by what their names contain; the first that fits
    ("attention", ("flash", "fmha", "attention", "sdpa", "cudnn_generated")),
    ("matrix products", ("gemm", "nvjet", "cutlass", "addmm", "aten::mm", "aten::bmm", "mkldnn_linear")),
    ("LAMB, clipping", ("multi_tensor", "foreach")),
    ("fused by the compiler", ("triton",)),
    ("copies", ("copy", "memcpy", "memset", "fill")),
)


def profile(step: Callable[[], None], device: torch.device) -> None:
    """Print which kinds of kernels a step's time goes to, and the longest kernels."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        synchronize(device)
    took: Counter[str] = Counter()
    for event in profiler.key_averages():
        on_gpu = event.device_type == torch.autograd.DeviceType.CUDA
        if device.type == "cuda" and not on_gpu:
            continue  # operators: their time is that of the kernels they start
        took[event.key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    kinds: Counter[str] = Counter()
    for name, microseconds in took.items():
        kind = next((kind for kind, parts in KINDS if any(part in name.lower() for part in parts)), "other")
        kinds[kind] += microseconds
    total = max(kinds.total(), 1)
    for kind, microseconds in kinds.most_common():
        print(f"  {kind:>21} {microseconds / 1e3:9.1f} ms  {microseconds / total:6.1%}")
    for name, microseconds in took.most_common(8):
        print(f"    {microseconds / 1e3:9.1f} ms  {name[:90]}")


# --- sampling


@torch.inference_mode()
def sample(size: str, batch: int, num_steps: int, device: torch.device, options: argparse.Namespace) -> None:
    """Print what a batch of latents costs."""
    config = SIZES[size]
    model = Fit(config).to(device, torch.bfloat16 if device.type == "cuda" else torch.float32).eval()
    if options.compile:
        model.compile_blocks()
    x_BCT, _, text, ids_B = inputs(config, batch, device)
    width = config.context.summary_width
    empty = Condition(Text(torch.zeros(1, width, device=device)), torch.zeros(1, dtype=torch.long, device=device))

    def run(steps: int) -> Tensor:
        guided = Guided(model, Condition(text, ids_B), empty, GUIDANCE)
        return ddim(guided, x_BCT, Diffusion(), steps, eta=1.0, draw=lambda: torch.randn_like(x_BCT))

    run(3)  # compile, allocate
    took_s = seconds(lambda: run(num_steps), device)
    work = flops(config, batch=2 * batch) * num_steps
    share = f", {work / took_s / H200_BF16:.1%} of {H200_BF16 / 1e12:.0f} TFLOP/s" if device.type == "cuda" else ""
    print(
        f"sample   {size:>5}  batch {batch:>3}  {num_steps} steps with guidance {took_s:.2f} s, "
        f"{1e3 * took_s / num_steps:.1f} ms a step, {work / took_s / 1e12:.2f} TFLOP/s{share}; "
        f"{memory_gb(device):.1f} GB"
    )


# --- what they share


def inputs(
    config: FitConfig, batch: int, device: torch.device, frames: int | None = None
) -> tuple[Tensor, Tensor, Text, Tensor]:
    """Noise for every input of a backbone."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, generator=generator)

    x_BCT = normal(batch, config.channels, frames or config.max_frames)
    ids_B = torch.arange(batch, device=device) % config.context.num_datasets
    timesteps_B = torch.arange(batch, device=device) * 997 % 1_000
    return x_BCT, timesteps_B, Text(normal(batch, config.context.summary_width)), ids_B


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="", help="of forward,train,sample; all by default (a GPU: train,sample)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, help="of all parts")
    parser.add_argument("--batch", type=int, help="clips per step; 64 on a GPU, as the paper, else 4; sampling 8 or 2")
    parser.add_argument("--rounds", type=int, default=5, help="that are timed")
    parser.add_argument("--steps", type=int, help="of the sampler: 100 on a GPU, else 4")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="the blocks; on a GPU by default")
    parser.add_argument("--checkpointing", action="store_true", help="keep no activations inside blocks")
    parser.add_argument("--profile", action="store_true", help="where the time of a training step goes")
    options = parser.parse_args()
    device = torch.device(options.device)
    on_gpu = device.type == "cuda"
    options.compile = on_gpu if options.compile is None else options.compile
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    name = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {name}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {'bf16' if on_gpu else 'fp32'}, "
        f"{'compiled' if options.compile else 'not compiled'}\n"
    )
    parts = (
        options.parts.split(",") if options.parts else ["train", "sample"] if on_gpu else ["forward", "train", "sample"]
    )
    if unknown := sorted(set(parts) - {"forward", "train", "sample"}):
        parser.error(f"--parts {','.join(unknown)}: write some of forward,train,sample")
    size = options.size or ("l" if on_gpu else "demo")
    if "forward" in parts:
        for each, batch in ((options.size, 4),) if options.size else (("yaml", 4), ("s", 1)):
            compare_forward(each, options.batch or batch, options.rounds, device)
        compare_durations(options.size or "yaml", options.batch or 4, options.rounds, device)
    if "train" in parts:
        train(size, options.batch or (64 if on_gpu else 4), options.rounds, device, options)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if "sample" in parts:
        batch = 8 if on_gpu else options.batch or 2
        sample(size, batch, options.steps or (100 if on_gpu else 4), device, options)


if __name__ == "__main__":
    main()
