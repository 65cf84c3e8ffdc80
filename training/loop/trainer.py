"""The training loop: one step after the other, each a function of the seed and its position.

A task says what a batch is and what its loss is; the loop does the rest, in one process or in several (`processes`).
Batches are prepared ahead by threads and taken in order, so neither their number nor their speed changes the result.
The state is the weights, the optimiser and a position.

No step waits for the device: losses are summed there, a step without a finite loss and gradient is skipped there, and
the host reads the statistics of a step when they have arrived, on a GPU two steps later. All processes read them after
the same step, so they decide together whether to stop or to give up.
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
from autorecap.training.loop.step_statistics import LogMeans, StepStatistics, memory_gb
from autorecap.training.loop.stop_requests import REQUESTS
from autorecap.training.loop.task import Batch, Player, Scored, Task

LAG = 2
"""Steps that a GPU may be behind when the statistics of a step are read."""
_MOST_STEPS, _MOST_RANKS = 1_000_003, 1_009
"""Primes. Dropout is seeded by (seed, step, rank) as one number, and no two are the same in runs below these sizes."""
_FIRST_CLIPS = 100
"""Clips that the share of unreadable ones is of, at least: a few files may be broken at the very start."""


class TrainingStoppedError(ForeseenError):
    """Training cannot go on: losses are not finite, or too many clips cannot be read."""

    exit_code = FINISHED_WITH_FAILURES


class _Side:
    """A player with its trained parameters and its optimiser."""

    def __init__(self, player: Player, config: LoopConfig) -> None:
        self.player = player
        self.trained = [p for p in player.module.parameters() if p.requires_grad]
        self.optimizer: Any = make_optimizer(
            config.optimizer, self.trained, config.lr, config.weight_decay, config.betas
        )
        fill_state(self.optimizer)


class Trainer:
    """Trainer of one run: holds weights, optimisers and position, and takes the steps."""

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
            raise ValueError("loop.steps is 0: give the trainer a resolved config (LoopConfig.resolved)")
        config.check_processes(ranks.count)
        self.task, self.config, self.ranks, self.say = task, config, ranks, say
        self.device = torch.device(device)
        self.module: nn.Module = task.module.to(self.device)
        self.sharded = config.sharding == "fsdp" and ranks.count > 1
        if self.sharded:
            if not hasattr(task, "units"):
                raise ForeseenError(
                    "loop.sharding=fsdp is not supported for this model, which fits on one GPU: use loop.sharding=ddp"
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
        self._reported: set[str] = set()  # unreadable clips that have been named
        self.save_due = False  # a launcher has asked for a checkpoint
        self._stop_requested = False  # in this process; all stop after the same step
        self._stopping = False
        self._unread: deque[StepStatistics] = deque()
        self._blank: Batch | None = None  # a batch that was readable, for steps where a sharded process has none
        self._peak_flops: float | None = None

    def request_stop(self) -> None:
        """End the run after the step at work, in all processes. A signal handler may call this."""
        self._stop_requested = True

    def run(
        self,
        log: Callable[[dict[str, float]], None],
        *,
        until: int | None = None,
        after_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Train up to step `until`, by default to the end. Return False if a request ended it before.

        log: called with a line of numbers every `log_every` steps, in the first process
        after_step: called after every step, in all processes
        """
        until = self.config.steps if until is None else until
        self.module.train()
        started, first, waited = time.perf_counter(), self.step, 0.0
        means = LogMeans()
        for batches, waited_s in self._steps(until):
            waited += waited_s
            self._train_step(batches, means)
            self.step += 1
            self.catch_up(LAG if self.device.type == "cuda" else 0)
            if self.step % self.config.log_every == 0 or self.step == until:
                self.catch_up()
                seconds = time.perf_counter() - started
                pace = (self.step - first) / seconds
                numbers, flops_per_s = means.take(self.ranks)
                if self.ranks.first:
                    log({
                        "step": self.step,
                        **numbers,
                        "lr": self._learning_rate(self.step - 1),
                        "skipped": self.bad_steps,
                        "unreadable": self.num_unreadable,
                        "samples_per_s": pace * self.config.batch_size,
                        "waited_share": waited / seconds,  # of the time, for batches: near 0 if reading keeps up
                        **self._mfu(flops_per_s),
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
        """Read the statistics of all steps but the last `lag`. Raises TrainingStoppedError."""
        while len(self._unread) > lag:
            self._read(self._unread.popleft())

    def _train_step(self, batches: list[Batch], means: LogMeans) -> None:
        """Update every player once. The statistics of the step stay on the device."""
        torch.manual_seed((self.config.seed * _MOST_STEPS + self.step) * _MOST_RANKS + self.ranks.rank)  # dropout
        statistics = StepStatistics(self.step, batches)
        for batch in batches:
            for reason in batch.unreadable:
                if reason not in self._reported:  # the clip comes again every epoch
                    self._reported.add(reason)
                    self.say(f"step {self.step}: left out, as it cannot be read: {reason}")
        lr = self._learning_rate(self.step)
        for side in self.sides:
            if self.step >= side.player.begins:
                self._move(side, batches, lr, statistics, means)
        if self.average is not None:
            self.average.update(self.step, 1 - statistics.bad)
        requests = (self._stop_requested or REQUESTS.stop, REQUESTS.save)
        REQUESTS.save = False
        statistics.close(self.ranks, self.device, requests)
        self._unread.append(statistics)
        means.end_step(statistics.bad)

    def _move(self, side: _Side, batches: list[Batch], lr: float, statistics: StepStatistics, means: LogMeans) -> None:
        """Compute the gradients of one player's loss, and take its optimiser's step."""
        buffers = [(b, b.clone()) for b in self.module.buffers()]
        total = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss times weight, weight
        scores: list[tuple[Scored, Tensor]] = []
        for batch in batches:
            has_clips = len(batch.names) > 0
            if has_clips:
                self._blank = batch
            elif not self.sharded:
                continue
            scored = self._score(batch if has_clips else self._blank_batch(), side.player)
            weight = torch.as_tensor(scored.weight * has_clips, dtype=torch.float64, device=self.device)
            (scored.loss * weight.to(scored.loss.dtype)).backward()
            loss = scored.loss.detach().double()
            total += torch.stack([torch.where(weight > 0, loss * weight, 0.0), weight])
            if has_clips:
                statistics.add_loss(batch, torch.isfinite(loss))
                scores.append((scored, weight))
        self.ranks.sum(total)
        if not self.sharded:
            self.ranks.add_gradients(side.trained)
        any_clips = total[1] > 0
        gradients = [local(p.grad) for p in side.trained if p.grad is not None]
        norm = self._scale_gradients(gradients, torch.where(any_clips, 1 / total[1], 0.0))
        bad = ~(any_clips & torch.isfinite(total[0]) & torch.isfinite(norm))
        for gradient in gradients:
            gradient.masked_fill_(bad, 0.0)
        for group in side.optimizer.param_groups:
            group["lr"] = lr
        side.optimizer.found_inf, side.optimizer.grad_scale = bad.float(), None
        side.optimizer.step()
        side.optimizer.zero_grad(set_to_none=True)
        for buffer, before in buffers:  # one bad batch must not poison the running statistics of batch norms
            buffer.copy_(torch.where(bad, before, buffer))
        statistics.add_turn(bad, any_clips)
        prefix = f"{side.player.name}_" if side is not self.sides[-1] else ""
        means.add(scores, total[1], bad, prefix)
        if self.ranks.first:
            means.add_totals({f"{prefix}loss": total[0] / total[1], f"{prefix}grad_norm": norm}, bad)

    def _score(self, batch: Batch, player: Player) -> Scored:
        on_device = self.task.to(batch, self.device)
        with self.autocast:
            if not self.players:
                scored: Scored = self.module(on_device)
            else:
                scored = self.module(on_device, player.name, self.step)
        return scored

    def _blank_batch(self) -> Batch:
        """Return a batch without effect for a sharded process without clips: it gathers weights with the others."""
        if self._blank is None:
            raise TrainingStoppedError(f"step {self.step}: no clip of the first batch could be read")
        return self._blank

    def _scale_gradients(self, gradients: list[Tensor], scale: Tensor) -> Tensor:
        """Turn summed gradients into means, and shorten long ones. Return their norm before shortening, in fp32."""
        if self.sharded:
            scale = scale * self.ranks.count  # FSDP has averaged over the processes
        if not gradients:
            return torch.zeros((), device=self.device)
        torch._foreach_mul_(gradients, scale.to(gradients[0].dtype))
        norm: Tensor = torch.stack(list(torch._foreach_norm(gradients, dtype=torch.float32))).norm()
        if self.sharded:
            norm = self.ranks.sum(norm.square()).sqrt()
        if math.isfinite(self.config.max_grad_norm):
            torch._foreach_mul_(gradients, (self.config.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _read(self, statistics: StepStatistics) -> None:
        """Act on the statistics of a step: count, report, stop."""
        outcome = statistics.read()
        self.num_unreadable += outcome.num_unreadable
        self._stopping = self._stopping or outcome.stop
        self.save_due = self.save_due or outcome.save
        self._check_readable(statistics.step)
        if not outcome.bad:
            self.bad_steps = 0
            return
        self.bad_steps += 1
        if outcome.names:
            names = ", ".join(outcome.names)
            self.say(f"step {statistics.step}: skipped, loss or gradient is not finite; clips: {names}")
        elif not outcome.any_clips and self.ranks.first:
            self.say(f"step {statistics.step}: skipped, no clip could be read")
        if self.bad_steps >= min(self.config.max_bad_steps, self.config.steps):  # a short run of bad steps alone fails
            self.step = statistics.step
            raise TrainingStoppedError(
                f"step {statistics.step}: {self.bad_steps} steps in a row without a finite loss and gradient. Look at "
                f"the clips named above, or lower loop.lr={self.config.lr}"
            )

    def _check_readable(self, step: int) -> None:
        read = (step + 1) * self.config.batch_size
        if self.num_unreadable > self.config.max_unreadable_share * max(read, _FIRST_CLIPS):
            self.step = step
            raise TrainingStoppedError(
                f"step {step}: {self.num_unreadable} of {read} times a clip could not be read, more than "
                f"loop.max_unreadable_share={self.config.max_unreadable_share} allows. Take the clips named above out "
                "of the list, or raise the share"
            )

    def _learning_rate(self, step: int) -> float:
        c = self.config
        return learning_rate(step, peak=c.lr, steps=c.steps, warmup_steps=c.warmup_steps, min_share=c.min_lr_share)

    def _mfu(self, flops_per_s: float) -> dict[str, float]:
        """Return the model FLOPs utilisation, or {} if the operations or the processors are not known."""
        if not flops_per_s:
            return {}
        if self._peak_flops is None:
            known = hardware.of_device(self.device)
            self._peak_flops = known.peak_flops * self.ranks.count if known else 0.0
        return {"mfu": flops_per_s / self._peak_flops} if self._peak_flops else {}

    def _steps(self, until: int) -> Iterator[tuple[list[Batch], float]]:
        """Yield this process's batches of each step, in the order of positions, and the seconds waited for them."""
        with ThreadPoolExecutor(self.config.threads) as pool:
            ahead: deque[list[Future[Batch]]] = deque()
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
        """Return this process's positions of a step as micro-batches: equally many in all processes, the last may be
        empty."""
        size = self.config.batch_size
        mine = self.ranks.share(range(step * size, (step + 1) * size))
        most = math.ceil(size / self.ranks.count)
        at_once = self.config.micro_batch_size or most
        return [mine[first : first + at_once] for first in range(0, most, at_once)]

    # --- the state

    def averaged(self) -> AbstractContextManager[None]:
        """Within, the weights are their moving averages, if the run keeps them."""
        return self.average.in_place() if self.average is not None else nullcontext()

    def _named_trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state by name: trained weights, buffers, optimiser, averages; nothing frozen.

        They are the tensors themselves: a checkpoint is written from them and read into them.
        """
        persistent = self.module.state_dict().keys()
        state_tensors = {f"module.{name}": p.detach() for name, p in self._named_trained()}
        state_tensors |= {f"module.{name}": b for name, b in self.module.named_buffers() if name in persistent}
        state = {p: side.optimizer.state[p] for side in self.sides for p in side.trained}
        for name, p in self._named_trained():
            state_tensors |= {f"optimizer.{name}.{key}": value for key, value in state[p].items()}
        if self.average is not None:
            state_tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        return state_tensors

    def numbers(self) -> dict[str, int]:
        """Return the state's numbers, by the names that they have in a checkpoint."""
        self.catch_up()
        return {"step": self.step, "num_unreadable": self.num_unreadable}

    def go_on(self, numbers: Mapping[str, Any]) -> None:
        """Go on from these numbers, after the tensors have been read. On a CPU, with as many threads and processes, the
        run goes on bit for bit."""
        self.step, self.num_unreadable = numbers["step"], numbers["num_unreadable"]
