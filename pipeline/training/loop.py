"""The training loop: one step after the other, each a function of the seed and its position.

A task says what a batch is and what its loss is; the loop does the rest. Batches are prepared ahead by threads and
taken in order, so neither their number nor their speed changes the result. The state is the weights, the optimiser
and a position.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Task(Protocol):
    """What is trained. `module(batch)` is the loss to minimise and numbers to log."""

    module: nn.Module

    def batch(self, positions: range) -> Any:
        """The samples at these global positions: a pure function of them, called from several threads."""
        ...

    def to(self, batch: Any, device: torch.device) -> Any:
        """The batch on a device."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a task is trained."""

    steps: int
    batch_size: int = 32
    lr: float = 1e-3  # at the peak of the schedule
    min_lr_share: float = 0.02  # of the peak, where the cosine ends
    warmup_steps: int = 50
    weight_decay: float = 0.01  # on matrices alone: norms, biases and single vectors are left in peace
    betas: tuple[float, float] = (0.9, 0.98)
    max_grad_norm: float = 1.0
    max_bad_steps: int = 10  # in a row without a finite loss and gradient before training gives up
    log_every: int = 20  # steps
    prefetch: int = 4  # batches prepared ahead
    threads: int = 2  # that prepare them
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "prefetch", "threads", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"loop: {name} is {getattr(self, name)}: write 1 or more")


class TrainingDivergedError(RuntimeError):
    """Loss or gradients stopped being finite and did not recover."""


class Trainer:
    """Weights, optimiser and position of one run."""

    def __init__(self, task: Task, config: LoopConfig) -> None:
        self.task, self.config = task, config
        self.device = torch.device(config.device)
        self.module = task.module.to(self.device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.module, config.weight_decay), lr=config.lr, betas=config.betas
        )
        self.step = 0  # batches consumed; samples = step * batch_size
        self.bad_steps = 0

    def run(self, log: Callable[[dict[str, float]], None], until: int | None = None) -> None:
        """Train up to step `until` (all steps by default); `log` gets a line of numbers every `log_every` steps."""
        until = self.config.steps if until is None else until
        self.module.train()
        started, first, waited = time.perf_counter(), self.step, 0.0
        for batch, waited_s in self._batches(until):
            waited += waited_s
            line = self._train_step(self.task.to(batch, self.device))
            self.step += 1
            if self.step % self.config.log_every == 0 or self.step == until:
                seconds = time.perf_counter() - started
                pace = (self.step - first) / seconds
                log({
                    "step": self.step,
                    **line,
                    "samples_per_s": pace * self.config.batch_size,
                    "waited_share": waited / seconds,  # of the time, for batches: near 0 where data keeps up
                    "eta_s": (until - self.step) / pace,
                })  # fmt: skip

    def _train_step(self, batch: Any) -> dict[str, float]:
        torch.manual_seed(self.config.seed * 1_000_003 + self.step)  # dropout: a function of the position, too
        lr = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        loss, numbers = self.module(batch)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.max_grad_norm)
        if bool(torch.isfinite(loss)) and bool(torch.isfinite(grad_norm)):
            self.optimizer.step()
            self.bad_steps = 0
        else:  # one bad batch must poison neither the weights nor the running statistics of batch norms
            self.bad_steps += 1
            for buffer, before in buffers:
                buffer.copy_(before)
            if self.bad_steps >= self.config.max_bad_steps:
                raise TrainingDivergedError(
                    f"step {self.step}: {self.bad_steps} steps in a row without a finite loss and gradient "
                    f"(loss {loss.item()}, gradient norm {grad_norm.item()}): lower lr, which is {self.config.lr}"
                )
        self.optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.item(), **numbers, "grad_norm": grad_norm.item(), "lr": lr, "skipped": self.bad_steps}

    def _batches(self, until: int) -> Iterator[tuple[Any, float]]:
        """Batches in the order of their positions, and the seconds spent waiting for each."""
        size = self.config.batch_size
        with ThreadPoolExecutor(self.config.threads) as pool:
            ahead: deque[Future[Any]] = deque()
            following = self.step
            try:
                for _ in range(self.step, until):
                    while len(ahead) < self.config.prefetch and following < until:
                        ahead.append(pool.submit(self.task.batch, range(following * size, (following + 1) * size)))
                        following += 1
                    started = time.perf_counter()
                    batch = ahead.popleft().result()
                    yield batch, time.perf_counter() - started
            finally:
                for future in ahead:
                    future.cancel()

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, apart from the task and the config."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: on a CPU with the same number of threads, bit for bit."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then a cosine down to `min_lr_share` of the peak."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    share = config.min_lr_share
    return config.lr * (share + (1 - share) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices, which decay, and the rest."""
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices: list[Tensor] = [p for p in trained if p.ndim >= 2]
    rest: list[Tensor] = [p for p in trained if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def logger(path: Path | None, show: Callable[[str], None] = print) -> Callable[[dict[str, float]], None]:
    """Log lines: JSON appended to `path`, and one for people to `show`."""

    def log(line: dict[str, float]) -> None:
        if path is not None:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        step, eta_s = int(line["step"]), round(line["eta_s"])
        numbers = "  ".join(f"{name} {value:.3g}" for name, value in line.items() if name not in ("step", "eta_s"))
        show(f"step {step:>6}  {numbers}  ready in {eta_s // 60}:{eta_s % 60:02d}")

    return log
