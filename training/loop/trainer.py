"""The training loop: one step after the other, each a function of the seed and its position.

A task says what a batch is and what its loss is; the loop does the rest, in one process or in several (`ranks`).
Batches are prepared ahead by threads and taken in order, so neither their number nor their speed changes the result.
The state is the weights, the optimiser and a position.

Nothing in a step waits for the device: losses are summed there, a step without a finite loss and gradient is skipped
there, and its numbers are read when they are there, on a GPU two steps later. All processes read them after the same
step, so what they decide by them (to stop, to give up) they decide together.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from autorecap.base.errors import FINISHED_WITH_FAILURES, ForeseenError
from autorecap.training.loop import hardware
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.ema import Average
from autorecap.training.loop.optim import fill_state, learning_rate, make_optimizer
from autorecap.training.loop.processes import ALONE, Ranks
from autorecap.training.loop.sharding import local, shard
from autorecap.training.loop.step_statistics import Means, StepNumbers, memory_gb
from autorecap.training.loop.stop_requests import ASKED
from autorecap.training.loop.task import Batch, Player, Scored, Task

__all__ = ["Batch", "LoopConfig", "Player", "Scored", "Task", "Trainer", "TrainingStoppedError"]

LAG = 2
"""Steps that a GPU may be behind when the numbers of a step are read."""


class TrainingStoppedError(ForeseenError):
    """Training cannot go on: losses are not finite, or the data cannot be read."""

    exit_code = FINISHED_WITH_FAILURES


class _Side:
    """A player with its parameters and its optimiser."""

    def __init__(self, player: Player, config: LoopConfig) -> None:
        self.player = player
        self.trained = [p for p in player.module.parameters() if p.requires_grad]
        self.optimizer: Any = make_optimizer(
            config.optimizer, self.trained, config.lr, config.weight_decay, config.betas
        )
        fill_state(self.optimizer)


class Trainer:
    """Weights, optimisers and position of one run."""

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
        if ranks.count > config.batch_size:
            raise ValueError(
                f"loop.batch_size is {config.batch_size}, but there are {ranks.count} processes: each needs a clip. "
                "Start fewer, or raise it"
            )
        self.task, self.config, self.ranks, self.say = task, config, ranks, say
        self.device = torch.device(device)
        self.module: nn.Module = task.module.to(self.device)
        self.sharded = config.sharding == "fsdp" and ranks.count > 1
        if self.sharded:
            if not hasattr(task, "units"):
                raise ValueError(
                    "loop.sharding is fsdp, which this model does not need: every process can hold it. ddp"
                )
            shard(task.units, self.device)
        self.players = tuple(getattr(task, "players", ()))
        self.sides = [_Side(player, config) for player in self.players or (Player("", self.module),)]
        self.trained = [p for side in self.sides for p in side.trained]
        self.optimizer = self.sides[-1].optimizer
        self.average = Average(dict(self._named_trained()), config.ema_decay) if config.ema_decay else None
        if config.compiled:
            self.module.compile()
        bf16 = config.precision == "bf16" or (config.precision == "auto" and self.device.type == "cuda")
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)
        self.step = 0  # batches consumed; samples = step * batch_size
        self.bad_steps = 0  # in a row
        self.num_unreadable = 0
        self._named: set[str] = set()
        self.stop_asked = False  # set from a signal handler; all ranks stop after the same step
        self.save_due = False  # a launcher has asked for a checkpoint
        self._stopping = False
        self._unread: deque[StepNumbers] = deque()
        self._blank: Any = None  # a batch that was readable, for steps where a sharded rank has none
        self._peak: float | None = None

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
        means = Means()
        for batches, waited_s in self._steps(until):
            waited += waited_s
            self._train_step(batches, means)
            self.step += 1
            self.catch_up(LAG if self.device.type == "cuda" else 0)
            if self.step % self.config.log_every == 0 or self.step == until:
                self.catch_up()
                seconds = time.perf_counter() - started
                pace = (self.step - first) / seconds
                found, flops = means.take(self.ranks)
                if self.ranks.first:
                    log({
                        "step": self.step,
                        **found,
                        "lr": self._learning_rate(self.step - 1),
                        "skipped": self.bad_steps,
                        "unreadable": self.num_unreadable,
                        "samples_per_s": pace * self.config.batch_size,
                        "waited_share": waited / seconds,  # of the time, for batches: near 0 where data keeps up
                        **self._mfu(flops),
                        "memory_gb": memory_gb(self.device),
                        "eta_s": (self.config.steps - self.step) / pace,
                    })  # fmt: skip
            after_step()
            self.module.train()
            if self._stopping:
                self.catch_up()
                return self.step == until
        return True

    def catch_up(self, lag: int = 0) -> None:
        """Read the numbers of all steps but the last `lag`. Raises TrainingStoppedError."""
        while len(self._unread) > lag:
            self._read(self._unread.popleft())

    def _train_step(self, batches: list[Any], means: Means) -> None:
        """One update of every player. Its numbers stay on the device."""
        torch.manual_seed((self.config.seed * 1_000_003 + self.step) * 1_009 + self.ranks.rank)  # dropout
        numbers = StepNumbers(self.step, batches)
        for batch in batches:
            for what in batch.unreadable:
                if what not in self._named:  # its turn comes again and again
                    self._named.add(what)
                    self.say(f"step {self.step}: left out, as it cannot be read: {what}")
        lr = self._learning_rate(self.step)
        for side in self.sides:
            if self.step >= side.player.begins:
                self._move(side, batches, lr, numbers, means)
        if self.average is not None:
            self.average.update(self.step, 1 - numbers.bad)
        asked = (self.stop_asked or ASKED.stop, ASKED.save)
        ASKED.save = False
        numbers.close(self.ranks, self.device, asked)
        self._unread.append(numbers)
        means.end_step(numbers.bad)

    def _move(self, side: _Side, batches: list[Any], lr: float, numbers: StepNumbers, means: Means) -> None:
        """Gradients of one player's loss, and its optimiser's step."""
        buffers = [(b, b.clone()) for b in self.module.buffers()]
        total = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss times weight, weight
        scores: list[tuple[Scored, Tensor]] = []
        for batch in batches:
            counts = len(batch.names) > 0
            if counts:
                self._blank = batch
            elif not self.sharded:
                continue
            scored = self._score(batch if counts else self._blank_batch(), side.player)
            weight = torch.as_tensor(scored.weight * counts, dtype=torch.float64, device=self.device)
            (scored.loss * weight.to(scored.loss.dtype)).backward()
            loss = scored.loss.detach().double()
            total += torch.stack([torch.where(weight > 0, loss * weight, 0.0), weight])
            if counts:
                numbers.finite(batch, torch.isfinite(loss))
                scores.append((scored, weight))
        self.ranks.sum(total)
        if not self.sharded:
            self.ranks.add_gradients(side.trained)
        known = total[1] > 0
        gradients = [local(p.grad) for p in side.trained if p.grad is not None]
        norm = self._scale_gradients(gradients, torch.where(known, 1 / total[1], 0.0))
        bad = ~(known & torch.isfinite(total[0]) & torch.isfinite(norm))
        for gradient in gradients:
            gradient.masked_fill_(bad, 0.0)
        for group in side.optimizer.param_groups:
            group["lr"] = lr
        side.optimizer.found_inf, side.optimizer.grad_scale = bad.float(), None
        side.optimizer.step()
        side.optimizer.zero_grad(set_to_none=True)
        for buffer, before in buffers:  # one bad batch must not poison the running statistics of batch norms
            buffer.copy_(torch.where(bad, before, buffer))
        numbers.add(bad, known)
        prefix = f"{side.player.name}_" if side is not self.sides[-1] else ""
        means.add(scores, total[1], bad, prefix)
        if self.ranks.first:
            means.set({f"{prefix}loss": total[0] / total[1], f"{prefix}grad_norm": norm}, bad)

    def _score(self, batch: Any, player: Player) -> Scored:
        on_device = self.task.to(batch, self.device)
        with self.autocast:
            if not self.players:
                scored: Scored = self.module(on_device)
            else:
                scored = self.module(on_device, player.name, self.step)
        return scored

    def _blank_batch(self) -> Any:
        """What a sharded rank computes without effect while others have clips: they gather weights together."""
        if self._blank is None:
            raise TrainingStoppedError(f"step {self.step}: no clip of the first batch could be read")
        return self._blank

    def _scale_gradients(self, gradients: list[Tensor], scale: Tensor) -> Tensor:
        """Sums become means, long gradients shorter. Returns the norm of all of them before that, in fp32."""
        if self.sharded:
            scale = scale * self.ranks.count  # FSDP has made means over the processes
        if not gradients:
            return torch.zeros((), device=self.device)
        torch._foreach_mul_(gradients, scale.to(gradients[0].dtype))
        norm = torch.stack(list(torch._foreach_norm(gradients, dtype=torch.float32))).norm()
        if self.sharded:
            norm = self.ranks.sum(norm.square()).sqrt()
        if math.isfinite(self.config.max_grad_norm):
            torch._foreach_mul_(gradients, (self.config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _read(self, numbers: StepNumbers) -> None:
        """What came of a step, now that it is known."""
        found = numbers.read()
        self.num_unreadable += found.unreadable
        self._stopping = self._stopping or found.stop
        self.save_due = self.save_due or found.save
        self._check_readable(numbers.step)
        if not found.bad:
            self.bad_steps = 0
            return
        self.bad_steps += 1
        if found.names:
            named = f"loss or gradient is not finite; clips: {', '.join(found.names)}"
            self.say(f"step {numbers.step}: skipped, {named}")
        elif not found.any_clips and self.ranks.first:
            self.say(f"step {numbers.step}: skipped, no clip could be read")
        if self.bad_steps >= min(self.config.max_bad_steps, self.config.steps):  # a run of bad steps alone fails
            self.step = numbers.step
            raise TrainingStoppedError(
                f"step {numbers.step}: {self.bad_steps} steps in a row without a finite loss and gradient. Look at "
                f"the clips named above, or lower loop.lr, which is {self.config.lr}"
            )

    def _check_readable(self, step: int) -> None:
        read = (step + 1) * self.config.batch_size
        # a few files may be broken at the very start
        if self.num_unreadable > self.config.max_unreadable_share * max(read, 100):
            self.step = step
            raise TrainingStoppedError(
                f"step {step}: {self.num_unreadable} of {read} times a clip could not be read, more than "
                f"loop.max_unreadable_share, which is {self.config.max_unreadable_share}. The clips are named above: "
                "take them out of the list, or raise it"
            )

    def _learning_rate(self, step: int) -> float:
        c = self.config
        return learning_rate(step, peak=c.lr, steps=c.steps, warmup_steps=c.warmup_steps, min_share=c.min_lr_share)

    def _mfu(self, flops_per_s: float) -> dict[str, float]:
        """The share of what the processors could do; nothing where operations or processors are not known."""
        if not flops_per_s:
            return {}
        if self._peak is None:
            found = hardware.of_device(self.device)
            self._peak = found.peak_flops * self.ranks.count if found else 0.0
        return {"mfu": flops_per_s / self._peak} if self._peak else {}

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
        """What this rank does of a step, in micro-batches: as many of them on every rank, the last one may be empty."""
        size = self.config.batch_size
        mine = self.ranks.share(range(step * size, (step + 1) * size))
        most = math.ceil(size / self.ranks.count)
        at_once = self.config.micro_batch_size or most
        return [mine[first : first + at_once] for first in range(0, most, at_once)]

    # --- the state

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the weights are those that samples are made with: the averages, where there are some."""
        return self.average.in_place() if self.average is not None else nullcontext()

    def _named_trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """The state's tensors themselves, by name: what learns, buffers, optimiser, average; not what is frozen.

        A checkpoint is written from them, and read into them.
        """
        stored = self.module.state_dict().keys()
        found = {f"module.{name}": p.detach() for name, p in self._named_trained()}
        found |= {f"module.{name}": b for name, b in self.module.named_buffers() if name in stored}
        state = {p: side.optimizer.state[p] for side in self.sides for p in side.trained}
        for name, p in self._named_trained():
            found |= {f"optimizer.{name}.{key}": value for key, value in state[p].items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        return found

    def numbers(self) -> dict[str, int]:
        """The rest of the state."""
        self.catch_up()
        return {"step": self.step, "num_unreadable": self.num_unreadable}

    def go_on(self, numbers: Mapping[str, Any]) -> None:
        """Go on from a state whose tensors have been read: on a CPU with as many threads and processes, bit for bit."""
        self.step, self.num_unreadable = numbers["step"], numbers["num_unreadable"]
