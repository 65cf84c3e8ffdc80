"""The settings of the loop."""

from dataclasses import dataclass, replace

from autorecap.base.settings import Section, check, setting
from autorecap.training.loop.optim import OPTIMIZERS
from autorecap.training.loop.sharding import SHARDINGS


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Section, name="loop"):
    """How a task is trained."""

    steps: int = setting(0, "Length of the run in steps; 0: epochs say it.", results=True, ge=0)
    epochs: float = setting(20.0, "Length in rounds over the data, where steps is 0.", results=True, ge=0)
    batch_size: int = setting(128, "Samples per step over all processes together.", results=True, ge=1)
    micro_batch_size: int = setting(
        0, "Samples that a process works on at once; 0: its whole share of the batch.", ge=0
    )
    optimizer: str = setting(
        "adamw",
        "adam (L2 decay on all parameters), adamw (decay on matrices alone), or lamb (on all, steps scaled to norms).",
        results=True,
        choices=tuple(OPTIMIZERS),
    )
    lr: float = setting(1e-3, "Learning rate at the peak of the schedule.", results=True, gt=0)
    min_lr_share: float = setting(0.02, "Where the cosine ends, as a share of the peak.", results=True, ge=0, le=1)
    warmup_steps: int = setting(0, "Steps of linear warm-up; 0: warmup_epochs say it.", results=True, ge=0)
    warmup_epochs: float = setting(0.0, "Warm-up in rounds over the data, where warmup_steps is 0.", results=True, ge=0)
    weight_decay: float = setting(0.01, "See optimizer.", results=True, ge=0)
    betas: tuple[float, float] = setting((0.9, 0.98), "Decay of Adam's two averages.", results=True, ge=0, lt=1)
    max_grad_norm: float = setting(1.0, "A longer gradient is shortened to this; inf: none is.", results=True, gt=0)
    max_bad_steps: int = setting(5, "Steps in a row without a finite loss before training gives up.", ge=1)
    max_unreadable_share: float = setting(
        0.05, "Training stops where more samples than this share cannot be read.", ge=0, le=1
    )
    ema_decay: float = setting(
        0.0,
        "Of a moving average of the weights, which validation, samples and the model use; 0: none.",
        results=True,
        ge=0,
        lt=1,
    )
    sharding: str = setting(
        "ddp",
        "Over processes: ddp (each has all weights) or fsdp (weights, gradients, optimiser and average are split).",
        choices=SHARDINGS,
    )
    precision: str = setting(
        "auto", "fp32, bf16 (autocast), or auto: bf16 on a GPU.", results=True, choices=("auto", "fp32", "bf16")
    )
    compiled: bool = setting(
        False, "torch.compile the module: minutes at the start, for long runs on a GPU.", results=True
    )
    log_every: int = setting(20, "Steps from log line to log line; each is a mean over the steps since the last.", ge=1)
    prefetch: int = setting(4, "Batches prepared ahead.", ge=1)
    threads: int = setting(2, "Threads that prepare them; decoding audio is what they do.", ge=1)
    seed: int = setting(0, "Of all that is random.", results=True, ge=0)

    def validate(self) -> None:
        check(self.steps > 0 or self.epochs > 0, "loop.steps", "expected more than 0 where loop.epochs is 0: write one")

    def resolved(self, num_samples: int) -> "LoopConfig":
        """The same with `steps` and `warmup_steps` in numbers, for data of this size."""
        per_epoch = num_samples / self.batch_size
        return replace(
            self,
            steps=self.steps or max(1, round(self.epochs * per_epoch)),
            warmup_steps=self.warmup_steps or round(self.warmup_epochs * per_epoch),
        )
