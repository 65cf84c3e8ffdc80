"""The validation loop: which batches it reads, what it leaves out, and that its sums do not depend on who measures."""

from typing import NamedTuple

import torch

from autorecap.training.loop.validation import Measured, validation_means


class Batch(NamedTuple):
    names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()


def read_batch(positions: range) -> Batch:
    """Clips that are called by their positions, of which the third and those from the seventh on cannot be read."""
    gone = [position for position in positions if position == 2 or position >= 6]
    names = tuple(str(position) for position in positions if position not in gone)
    return Batch(names, tuple(f"{position}: no such file" for position in gone))


def silent(line: str) -> None:
    pass


def test_every_number_is_a_mean_over_clips_weighted_by_batch() -> None:
    read: list[tuple[str, ...]] = []

    def measure(batch: Batch) -> Measured:
        read.append(batch.names)
        values = [float(name) for name in batch.names]
        return Measured({"validation_loss": sum(values) / len(values), "largest": max(values)}, len(values))

    means = validation_means(read_batch, measure, num_clips=5, batch_size=2, say=silent)
    assert read == [("0", "1"), ("3",), ("4",)]
    assert means == {"validation_loss": (0 + 1 + 3 + 4) / 4, "largest": (2 * 1 + 3 + 4) / 4}
    assert list(means) == ["validation_loss", "largest"]


def test_clips_that_cannot_be_read_are_named_and_batches_without_any_are_not_measured() -> None:
    said: list[str] = []

    def measure(batch: Batch) -> Measured:
        assert batch.names
        return Measured({"validation_loss": 1.0}, 1)

    validation_means(read_batch, measure, num_clips=8, batch_size=2, say=said.append)
    assert said == [f"validation: left out, as it cannot be read: {position}: no such file" for position in (2, 6, 7)]
    assert validation_means(lambda p: Batch((), ("gone",)), measure, num_clips=4, batch_size=2, say=silent) == {}
    assert validation_means(read_batch, measure, num_clips=0, batch_size=2, say=silent) == {}


def test_sums_are_made_batch_after_batch_in_fp64_to_the_last_bit() -> None:
    """Numbers that are tensors on the device give the bits that plain numbers give."""
    losses = torch.rand(40, generator=torch.Generator().manual_seed(0))
    expected, total = 0.0, 0
    for position, loss in enumerate(losses.tolist()):
        expected += loss * (position + 1)
        total += position + 1

    def as_number(batch: Batch) -> Measured:
        position = int(batch.names[0])
        return Measured({"validation_loss": losses[position].item()}, position + 1)

    def as_tensor(batch: Batch) -> Measured:
        position = int(batch.names[0])
        return Measured({"validation_loss": losses[position].double()}, position + 1)

    for measure in (as_number, as_tensor):
        means = validation_means(lambda p: Batch((str(p[0]),)), measure, num_clips=40, batch_size=1, say=silent)
        assert means == {"validation_loss": expected / total}
