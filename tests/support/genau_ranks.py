"""Trains a tiny GenAu on latents out of thin air, in one process or in those that torchrun started.

    python -m tests.support.genau_ranks OUT {ddp|fsdp} [--until STEP] [--save-every STEPS]

goes on from OUT's last checkpoint.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autorecap.dataset.reading.clips import Clip, Latent
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig
from autorecap.models.genau.backbones.config import ContextConfig, FitConfig
from autorecap.models.genau.config import GenAuConfig
from autorecap.models.genau.model import GenAu, small_encoders
from autorecap.models.genau.vae.model import VAEConfig
from autorecap.models.genau.vocoder.model import VocoderConfig
from autorecap.training.checkpoint import checkpoint
from autorecap.training.genau.task import ClipBatch, GenAuTask, GenAuTaskConfig
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.processes import Ranks, join_processes
from autorecap.training.loop.trainer import Trainer

NUM_CLIPS, BATCH, STEPS = 39, 13, 12  # three steps an epoch, shares that differ by one
IDENTITY = {"run": "tiny"}

CONFIG = GenAuConfig(
    size="tiny",
    backbone=FitConfig(
        channels=16,
        max_frames=64,
        group_size=16,
        num_latents=16,
        patch_width=32,
        latent_width=48,
        num_blocks=2,
        local_layers=1,
        global_layers=1,
        head_width=16,
        dropout=0.0,  # its masks would depend on the ranks
        context=ContextConfig(width=48, summary_width=128),
    ),
    vae=VAEConfig(channels=16, width=64, blocks=1, multipliers=(1, 1, 1), inner_channels=16),
    vocoder=VocoderConfig(width=32, kernels=(3,), dilations=(1,)),
)


class ThinAir:
    """Latents of 5 to 64 frames with texts, in shards of unequal sizes."""

    name = ""
    shard_sizes = np.array([10, 3, 17, 9])
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        return {"thin": "air"}

    def __len__(self) -> int:
        return NUM_CLIPS

    def __getitem__(self, index: int) -> Clip:
        rng = np.random.default_rng(index)
        frames = int(rng.integers(5, 65))

        def load(window_s: float, share: float) -> Latent:
            mean, logvar = rng.standard_normal((2, 16, frames), dtype=np.float32)
            return Latent(mean, logvar - 3, rng.standard_normal(128, dtype=np.float32))

        return Clip(name=f"clip-{index}", captions=("a sound",), title="", load=load)

    def prepare(self, shard: int, window: int) -> None:
        pass


class Noting(GenAuTask):
    """Notes which clips were used in which step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.used: list[tuple[int, str]] = []
        self.last: ClipBatch | None = None
        self.trainer: Trainer | None = None

    def to(self, batch: ClipBatch, device: torch.device) -> Any:
        if batch is not self.last:  # else it fills in for a micro-batch that this rank does not have
            assert self.trainer is not None
            self.used += [(self.trainer.step, name) for name in batch.names]
        self.last = batch
        return super().to(batch, device)


def trainer_of(ranks: Ranks, sharding: str, **changes: Any) -> Trainer:
    torch.manual_seed(0)
    model = GenAu(CONFIG, small_encoders(CONFIG))
    examples = ClipExamples(ThinAir(), replace(ExamplesConfig(), mix_p=0.0), 10.0, 0, window=2)
    task = Noting(model, examples, GenAuTaskConfig())
    config: dict[str, Any] = {
        "optimizer": "lamb",
        "lr": 5e-3,
        "betas": (0.9, 0.99),
        "max_grad_norm": 0.5,
        "ema_decay": 0.9,
    }
    config |= {
        "ema_decay": 0.9,
        "steps": STEPS,
        "batch_size": BATCH,
        "micro_batch_size": 3,
        "log_every": 1,
        "sharding": sharding,
    }
    task.trainer = Trainer(task, LoopConfig(**config | changes), ranks=ranks)
    return task.trainer


def train(ranks: Ranks, sharding: str, out: Path, until: int, save_every: int = STEPS) -> dict[str, Any]:
    """Losses by step, and the clips that each rank used. The state is saved in `out`."""
    trainer = trainer_of(ranks, sharding)
    saver = checkpoint.Saver(out / "checkpoints", ranks, keep=2)
    found = ranks.agree(checkpoint.all_in(out / "checkpoints"))
    if found:
        checkpoint.load(found[-1], IDENTITY, trainer)
    begun, losses = trainer.step, dict[float, float]()

    def after_step() -> None:
        if trainer.step % save_every == 0 or trainer.step == until:
            saver.save(trainer, IDENTITY)
            if save_every < STEPS:
                print(f"step {trainer.step}", flush=True)

    trainer.run(lambda line: losses.update({line["step"]: line["loss"]}), until=until, after_step=after_step)
    saver.wait()
    assert isinstance(trainer.task, Noting)
    used = [each for of_rank in ranks.gather(trainer.task.used) for each in of_rank]
    return {"from": begun, "losses": losses, "used": used}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--whole", action="store_true", help="both shardings from the start as well")
    parser.add_argument("--until", type=int, default=STEPS)
    parser.add_argument("--save-every", type=int, default=STEPS)
    told = parser.parse_args()
    torch.set_num_threads(1)
    with join_processes("cpu") as ranks:
        found = {"elastic": train(ranks, "fsdp", told.out, told.until, told.save_every)}
        if told.whole:
            for sharding in ("ddp", "fsdp"):
                found[sharding] = train(ranks, sharding, told.out / f"{sharding}-{ranks.count}", STEPS)
        if ranks.first:
            (told.out / f"found-{ranks.count}.json").write_text(json.dumps(found))
