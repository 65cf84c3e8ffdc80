"""Started by torchrun: trains the numbers of small_training on two processes, and saves what came out."""

import sys
from pathlib import Path

import torch

from autorecap.training.loop.processes import join_processes
from autorecap.training.loop.trainer import Trainer
from tests.support.small_training import Numbers, config, weights

if __name__ == "__main__":
    with join_processes("cpu") as ranks:
        losses: list[float] = []
        trainer = Trainer(
            Numbers(bad=range(13, 14), noisy=False),
            config(batch_size=5),
            ranks=ranks,
            say=lambda text: print(f"rank {ranks.rank}: {text}", flush=True),
        )
        trainer.run(lambda line: losses.append(line["loss"]))
        torch.save({"weights": weights(trainer), "losses": losses}, Path(sys.argv[1], f"{ranks.rank}.pt"))
