"""The training loop: one step after the other, each a function of the seed and its position.

A task says what a batch is and what its loss is; the loop does the rest, in one process or in several (`ranks`).
Batches are prepared ahead by threads and taken in order, so neither their number nor their speed changes the result.
The state is the weights, the optimiser and a position.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import FINISHED_WITH_FAILURES, ForeseenError
from pipeline.training.optim import OPTIMIZERS, learning_rate, make_optimizer
from pipeline.training.ranks import ALONE, Ranks
from stages.settings import check, setting


class Batch(Protocol):
    """What a task makes of some positions; the loop itself looks at nothing but these names."""

    @property
    def names(self) -> Sequence[str]:
        """The samples in it, for people."""
        ...

    @property
    def unreadable(self) -> Sequence[str]:
        """The samples that should be in it and are not, each with the reason."""
        ...


class Scored(NamedTuple):
    """What a module makes of a batch: a mean loss, over how much it is a mean, and numbers to log."""

    loss: Tensor
    weight: float  # tokens, or whatever the loss is a mean of: gradients of parts of a batch are weighted by it
    numbers: dict[str, float]


class Task(Protocol):
    """What is trained. `module(batch)` gives a `Scored`."""

    module: nn.Module

    def batch(self, positions: range) -> Any:
        """The samples at these global positions, a `Batch`: a pure function of them, called from several threads."""
        ...

    def to(self, batch: Any, device: torch.device) -> Any:
        """The batch on a device."""
        ...


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a task is trained."""

    steps: int = setting(0, "Length of the run in steps; 0: epochs say it.", results=True)
    epochs: float = setting(20.0, "Length in rounds over the data, where steps is 0.", results=True)
    batch_size: int = setting(128, "Samples per step over all processes together.", results=True)
    micro_batch_size: int = setting(0, "Samples that a process works on at once; 0: its whole share of the batch.")
    optimizer: str = setting(
        "adamw",
        "adam (L2 decay on all parameters), adamw (decay on matrices alone), or lamb (on all, steps scaled to norms).",
        results=True,
    )
    lr: float = setting(1e-3, "Learning rate at the peak of the schedule.", results=True)
    min_lr_share: float = setting(0.02, "Where the cosine ends, as a share of the peak.", results=True)
    warmup_steps: int = setting(0, "Steps of linear warm-up; 0: warmup_epochs say it.", results=True)
    warmup_epochs: float = setting(0.0, "Warm-up in rounds over the data, where warmup_steps is 0.", results=True)
    weight_decay: float = setting(0.01, "See optimizer.", results=True)
    betas: tuple[float, float] = setting((0.9, 0.98), "Decay of Adam's two averages.", results=True)
    max_grad_norm: float = setting(1.0, "A longer gradient is shortened to this.", results=True)
    max_bad_steps: int = setting(5, "Steps in a row without a finite loss before training gives up.")
    max_unreadable_share: float = setting(0.05, "Training stops where more samples than this share cannot be read.")
    precision: str = setting("auto", "fp32, bf16 (autocast), or auto: bf16 on a GPU.", results=True)
    compiled: bool = setting(
        False, "torch.compile the module: minutes at the start, for long runs on a GPU.", results=True
    )
    log_every: int = setting(20, "Steps from log line to log line; each is a mean over the steps since the last.")
    prefetch: int = setting(4, "Batches prepared ahead.")
    threads: int = setting(2, "Threads that prepare them; decoding audio is what they do.")
    seed: int = setting(0, "Of all that is random.", results=True)

    def __post_init__(self) -> None:
        for name in ("batch_size", "prefetch", "threads", "log_every", "max_bad_steps"):
            check(getattr(self, name) >= 1, f"loop.{name} is {getattr(self, name)}: write 1 or more")
        for name in ("steps", "warmup_steps", "warmup_epochs", "micro_batch_size", "weight_decay", "seed"):
            check(getattr(self, name) >= 0, f"loop.{name} is {getattr(self, name)}: write 0 or more")
        check(self.steps > 0 or self.epochs > 0, "loop: steps and epochs are both 0: write one of them")
        for name in ("lr", "max_grad_norm"):
            check(getattr(self, name) > 0, f"loop.{name} is {getattr(self, name)}: write a number above 0")
        check(all(0 <= beta < 1 for beta in self.betas), f"loop.betas is {self.betas}: each from 0 to below 1")
        check(0 <= self.min_lr_share <= 1, f"loop.min_lr_share is {self.min_lr_share}: 0 to 1")
        check(self.optimizer in OPTIMIZERS, f"loop.optimizer is {self.optimizer!r}: one of {', '.join(OPTIMIZERS)}")
        check(self.precision in ("auto", "fp32", "bf16"), f"loop.precision is {self.precision!r}: auto, fp32 or bf16")
        check(0 <= self.max_unreadable_share <= 1, f"loop.max_unreadable_share is {self.max_unreadable_share}: 0 to 1")

    def resolved(self, num_samples: int) -> "LoopConfig":
        """The same with `steps` and `warmup_steps` in numbers, for data of this size."""
        per_epoch = num_samples / self.batch_size
        return replace(
            self,
            steps=self.steps or max(1, round(self.epochs * per_epoch)),
            warmup_steps=self.warmup_steps or round(self.warmup_epochs * per_epoch),
        )


class TrainingStoppedError(ForeseenError):
    """Training cannot go on: losses are not finite, or the data cannot be read."""

    exit_code = FINISHED_WITH_FAILURES


class Trainer:
    """Weights, optimiser and position of one run."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        *,
        device: str = "cpu",
        ranks: Ranks = ALONE,
        say: Callable[[str], None] = print,
    ) -> None:
        if config.steps < 1:
            raise ValueError("loop.steps is 0: give the loop a resolved config")
        self.task, self.config, self.ranks, self.say = task, config, ranks, say
        self.device = torch.device(device)
        self.module = task.module.to(self.device)
        self.trained = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(config.optimizer, self.trained, config.lr, config.weight_decay, config.betas)
        if config.compiled:
            self.module.compile()
        bf16 = config.precision == "bf16" or (config.precision == "auto" and self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        self.step = 0  # batches consumed; samples = step * batch_size
        self.bad_steps = 0  # in a row
        self.num_unreadable = 0
        self.stop_asked = False  # set from a signal handler; all ranks stop after the same step

    def run(
        self,
        log: Callable[[dict[str, float]], None],
        *,
        until: int | None = None,
        after_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train up to step `until` (all steps by default); False where it was asked to stop before.

        `log` gets a line of numbers every `log_every` steps, on the first rank; `after_step` is called on all ranks.
        """
        until = self.config.steps if until is None else until
        self.module.train()
        started, first, waited = time.perf_counter(), self.step, 0.0
        sums, num_summed = dict[str, float](), 0
        for batches, waited_s in self._steps(until):
            waited += waited_s
            line, stop = self._train_step(batches)
            self.step += 1
            for name, value in line.items():
                sums[name] = sums.get(name, 0.0) + value
            num_summed += bool(line)
            if self.step % self.config.log_every == 0 or self.step == until:
                seconds = time.perf_counter() - started
                pace = (self.step - first) / seconds
                if self.ranks.first:
                    log({
                        "step": self.step,
                        **{name: value / num_summed for name, value in sums.items()},
                        "lr": self._learning_rate(self.step - 1),
                        "skipped": self.bad_steps,
                        "unreadable": self.num_unreadable,
                        "samples_per_s": pace * self.config.batch_size,
                        "waited_share": waited / seconds,  # of the time, for batches: near 0 where data keeps up
                        "eta_s": (until - self.step) / pace,
                    })  # fmt: skip
                sums, num_summed = {}, 0
            after_step()
            self.module.train()
            if stop:
                return self.step == until
        return True

    def _train_step(self, batches: list[Any]) -> tuple[dict[str, float], bool]:
        """One update. The numbers of the step ({} where it was skipped), and whether a rank was asked to stop."""
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 1_009 + self.ranks.rank)  # dropout
        lr = self._learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        buffers = [(b, b.clone()) for b in self.module.buffers()]
        part = _Part(stop=self.stop_asked)
        suspects: list[str] = []
        for batch in batches:
            part.unreadable += len(batch.unreadable)
            for what in batch.unreadable:
                self.say(f"step {self.step}: left out, as it cannot be read: {what}")
            if len(batch.names):
                on_device = self.task.to(batch, self.device)
                with self.autocast:
                    scored = self.module(on_device)
                (scored.loss * scored.weight).backward()
                part.add(scored)
                if not bool(torch.isfinite(scored.loss)):
                    suspects += batch.names
        total = _Part.sum(self.ranks.gather(part))
        self.num_unreadable += total.unreadable
        self._check_readable()
        self.ranks.add_gradients(self.trained)
        grad_norm = self._scale_gradients(total.weight)
        finite = total.weight > 0 and math.isfinite(total.sums["loss"]) and bool(torch.isfinite(grad_norm))
        if finite:
            self.optimizer.step()
            self.bad_steps = 0
        else:  # one bad batch must poison neither the weights nor the running statistics of batch norms
            self.bad_steps += 1
            for buffer, before in buffers:
                buffer.copy_(before)
            names = suspects or [name for batch in batches for name in batch.names]
            why = f"loss or gradient is not finite; clips: {', '.join(names)}" if names else "no clip could be read"
            self.say(f"step {self.step}: skipped, {why}")
            if self.bad_steps >= min(self.config.max_bad_steps, self.config.steps):  # a run of bad steps alone fails
                raise TrainingStoppedError(
                    f"step {self.step}: {self.bad_steps} steps in a row without a finite loss and gradient. Look at "
                    f"the clips named above, or lower loop.lr, which is {self.config.lr}"
                )
        self.optimizer.zero_grad(set_to_none=True)
        if not finite:
            return {}, total.stop
        return {**{n: v / total.weight for n, v in total.sums.items()}, "grad_norm": grad_norm.item()}, total.stop

    def _scale_gradients(self, weight: float) -> Tensor:
        """Sums become means, long gradients shorter. Returns the norm before that."""
        gradients = [p.grad for p in self.trained if p.grad is not None]
        if not gradients or not weight:
            return torch.zeros(())
        torch._foreach_mul_(gradients, 1 / weight)
        return nn.utils.clip_grad_norm_(self.trained, self.config.max_grad_norm)

    def _check_readable(self) -> None:
        read = max((self.step + 1) * self.config.batch_size, 100)  # a few files may be broken at the very start
        if self.num_unreadable > self.config.max_unreadable_share * read:
            raise TrainingStoppedError(
                f"step {self.step}: {self.num_unreadable} of {read} clips could not be read, more than "
                f"loop.max_unreadable_share, which is {self.config.max_unreadable_share}. They are named above"
            )

    def _learning_rate(self, step: int) -> float:
        c = self.config
        return learning_rate(step, peak=c.lr, steps=c.steps, warmup_steps=c.warmup_steps, min_share=c.min_lr_share)

    def _steps(self, until: int) -> Iterator[tuple[list[Any], float]]:
        """This rank's batches of each step, in the order of their positions, and the seconds spent waiting for them."""
        with ThreadPoolExecutor(self.config.threads) as pool:
            ahead: deque[list[Future[Any]]] = deque()
            following = self.step
            try:
                for _ in range(self.step, until):
                    while len(ahead) < self.config.prefetch and following < until:
                        ahead.append([pool.submit(self.task.batch, part) for part in self._positions(following)])
                        following += 1
                    started = time.perf_counter()
                    batches = [future.result() for future in ahead.popleft()]
                    yield batches, time.perf_counter() - started
            finally:
                for future in (f for futures in ahead for f in futures):
                    future.cancel()

    def _positions(self, step: int) -> list[range]:
        """What this rank does of a step, in micro-batches."""
        size = self.config.batch_size
        mine = self.ranks.share(range(step * size, (step + 1) * size))
        at_once = self.config.micro_batch_size or max(len(mine), 1)
        return [mine[first : first + at_once] for first in range(0, len(mine), at_once)]

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on, apart from the task and the config."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "num_unreadable": self.num_unreadable,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state: on a CPU with the same number of threads and processes, bit for bit."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.num_unreadable = state["num_unreadable"]


@dataclass
class _Part:
    """What one rank did of a step. `sums`: numbers times their weight."""

    weight: float = 0.0
    unreadable: int = 0
    stop: bool = False
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, scored: Scored) -> None:
        self.weight += scored.weight
        for name, value in {"loss": scored.loss.item(), **scored.numbers}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * scored.weight

    @classmethod
    def sum(cls, parts: Sequence["_Part"]) -> "_Part":
        names = dict.fromkeys(name for part in parts for name in part.sums)
        return cls(
            weight=sum(part.weight for part in parts),
            unreadable=sum(part.unreadable for part in parts),
            stop=any(part.stop for part in parts),
            sums={name: sum(part.sums.get(name, 0.0) for part in parts) for name in names},
        )
