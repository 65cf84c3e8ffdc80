"""The validation loop of all models: batches of the first validation clips, and weighted means of what is measured."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from autorecap.training.loop.task import Batch

VALIDATION_SEED = 0  # of the noise in validation, whatever the run's

Numbers = Mapping[str, float | Tensor]


class Measured(NamedTuple):
    """The numbers of one batch: means, and the weight that they count with, such as the number of clips."""

    numbers: Numbers
    weight: float


def validation_means(
    read_batch: Callable[[range], Batch],
    measure: Callable[[Any], Measured],
    *,
    num_clips: int,
    batch_size: int,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Return the weighted mean of every number over the first `num_clips` clips; {} if no clip could be read.

    read_batch: returns the batch of some positions
    measure: returns the numbers of a batch on the device. Tensors stay there until the end, so that nothing waits

    The sums are made batch after batch, in fp64: another order would change the last bits of the result.
    """
    sums: dict[str, float | Tensor] = {}
    total_weight = 0.0
    for first in range(0, num_clips, batch_size):
        batch = read_batch(range(first, min(first + batch_size, num_clips)))
        for reason in batch.unreadable:
            say(f"validation: left out, as it cannot be read: {reason}")
        if not batch.names:
            continue
        numbers, weight = measure(batch)
        total_weight += weight
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0.0) + value * weight
    return {name: float(value / total_weight) for name, value in sums.items()} if total_weight else {}
