"""The settings of the loop."""

from dataclasses import dataclass, replace

from autorecap.base.settings import check, setting
from autorecap.training.loop.optim import OPTIMIZERS
from autorecap.training.loop.sharding import SHARDINGS


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
    max_grad_norm: float = setting(1.0, "A longer gradient is shortened to this; inf: none is.", results=True)
    max_bad_steps: int = setting(5, "Steps in a row without a finite loss before training gives up.")
    max_unreadable_share: float = setting(0.05, "Training stops where more samples than this share cannot be read.")
    ema_decay: float = setting(
        0.0, "Of a moving average of the weights, which validation, samples and the model use; 0: none.", results=True
    )
    sharding: str = setting(
        "ddp",
        "Over processes: ddp (each has all weights) or fsdp (weights, gradients, optimiser and average are split).",
    )
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
        check(self.sharding in SHARDINGS, f"loop.sharding is {self.sharding!r}: one of {', '.join(SHARDINGS)}")
        check(0 <= self.ema_decay < 1, f"loop.ema_decay is {self.ema_decay}: 0 (none) to below 1, as 0.999")
        check(0 <= self.max_unreadable_share <= 1, f"loop.max_unreadable_share is {self.max_unreadable_share}: 0 to 1")

    def resolved(self, num_samples: int) -> "LoopConfig":
        """The same with `steps` and `warmup_steps` in numbers, for data of this size."""
        per_epoch = num_samples / self.batch_size
        return replace(
            self,
            steps=self.steps or max(1, round(self.epochs * per_epoch)),
            warmup_steps=self.warmup_steps or round(self.warmup_epochs * per_epoch),
        )
