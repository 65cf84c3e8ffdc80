"""Settings of the training loop."""

from dataclasses import dataclass, replace

from autorecap.base.errors import ForeseenError
from autorecap.base.settings import Section, check, setting
from autorecap.training.loop.optim import OPTIMIZERS
from autorecap.training.loop.sharding import SHARDINGS


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Section, name="loop"):
    """Settings of the training loop: length, batches, optimiser, schedule, precision, processes."""

    steps: int = setting(0, "Length of the run in steps; 0: as many as epochs are.", results=True, ge=0)
    epochs: float = setting(20.0, "Length of the run in rounds over the data, if steps is 0.", results=True, ge=0)
    batch_size: int = setting(128, "Samples per step over all processes together.", results=True, ge=1)
    micro_batch_size: int = setting(
        0, "Samples that a process works on at once; 0: its whole share of the batch. The result is the same.", ge=0
    )
    optimizer: str = setting(
        "adamw",
        "adam (L2 decay of all parameters), adamw (decay of matrices), or lamb (decay of all, steps scaled to norms).",
        results=True,
        choices=tuple(OPTIMIZERS),
    )
    lr: float = setting(1e-3, "Learning rate at the peak of the schedule.", results=True, gt=0)
    min_lr_share: float = setting(
        0.02, "Learning rate at the end of the cosine, as a share of the peak.", results=True, ge=0, le=1
    )
    warmup_steps: int = setting(0, "Steps of linear warm-up; 0: as many as warmup_epochs are.", results=True, ge=0)
    warmup_epochs: float = setting(0.0, "Warm-up in rounds over the data, if warmup_steps is 0.", results=True, ge=0)
    weight_decay: float = setting(0.01, "Weight decay, applied as optimizer says.", results=True, ge=0)
    betas: tuple[float, float] = setting(
        (0.9, 0.98), "Decay of the optimiser's two running averages.", results=True, ge=0, lt=1
    )
    max_grad_norm: float = setting(
        1.0, "Longer gradients are shortened to this norm; inf: none is.", results=True, gt=0
    )
    max_bad_steps: int = setting(5, "Steps in a row without a finite loss before training gives up.", ge=1)
    max_unreadable_share: float = setting(
        0.05, "Training stops if a larger share of the samples cannot be read.", ge=0, le=1
    )
    ema_decay: float = setting(
        0.0,
        "Decay of a moving average of the weights, which validation, samples and the saved model use; 0: none.",
        results=True,
        ge=0,
        lt=1,
    )
    sharding: str = setting(
        "ddp",
        "Over processes: ddp (each holds all weights) or fsdp (weights, gradients, optimiser and average are split).",
        choices=SHARDINGS,
    )
    precision: str = setting(
        "auto", "fp32, bf16 (autocast), or auto: bf16 on a GPU.", results=True, choices=("auto", "fp32", "bf16")
    )
    compiled: bool = setting(
        False,
        "Compile the module (torch.compile): takes minutes at the start, pays in long runs on a GPU.",
        results=True,
    )
    log_every: int = setting(20, "Steps from log line to log line; each has means over the steps since the last.", ge=1)
    prefetch: int = setting(4, "Batches prepared ahead.", ge=1)
    threads: int = setting(2, "Threads that prepare batches, above all decode audio.", ge=1)
    seed: int = setting(0, "Seed of all random draws.", results=True, ge=0)

    def validate(self) -> None:
        check(
            self.steps > 0 or self.epochs > 0,
            "loop.steps",
            "expected more than 0, since loop.epochs is 0: set one of them",
        )

    def check_processes(self, count: int) -> None:
        """Raise ForeseenError if so many processes cannot share a batch."""
        if count > self.batch_size:
            raise ForeseenError(
                f"{count} processes cannot share a batch of {self.batch_size} clips: start fewer processes, or raise "
                "loop.batch_size"
            )

    def resolved(self, num_samples: int) -> "LoopConfig":
        """Return the settings with `steps` and `warmup_steps` computed for data of this size."""
        per_epoch = num_samples / self.batch_size
        return replace(
            self,
            steps=self.steps or max(1, round(self.epochs * per_epoch)),
            warmup_steps=self.warmup_steps or round(self.warmup_epochs * per_epoch),
        )
