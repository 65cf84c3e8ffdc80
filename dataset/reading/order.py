"""Says which clip stands at a position: a pure function of data and seed, so a position is all there is to resume.

A set of clips lies in shards. Every epoch its shards come in another order; a window of some of them is open at a time,
and the clips within it are permuted as one. So whole shards are read while they are wanted, and no order of all clips
is ever held. Several sets take turns by their weights on a fixed schedule, in which each comes as evenly as it can.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autorecap.dataset.reading.random_draws import TrainingDraw, numpy_generator

_EPOCHS, _WINDOWS = 3, 6  # kept per set: around a border two of each are at work


class Place(NamedTuple):
    """One clip in the endless list."""

    number: int  # of the set
    clip: int  # its index in the set


class Order:
    """The endless list of all clips of some sets."""

    def __init__(
        self, sets: Sequence[NDArray[np.int64]], shares: Sequence[Fraction | int], seed: int, window: int
    ) -> None:
        """`sets`: how many clips each shard of each set has. `shares`: of the turns. `window`: in shards."""
        self._shuffles = [Shuffle(sizes, (seed, number), window) for number, sizes in enumerate(sets)]
        self._turns = Turns(shares)

    def __call__(self, position: int) -> Place:
        number, place = self._turns(position)
        _, clip = self._shuffles[number](place)
        return Place(number, clip)

    def windows(self, position: int) -> list[tuple[list[int], list[int]]]:
        """Return for each set the shards of the window that is open at a position, and those of the one after it."""
        return [shuffle.windows(self._turns.taken(number, position)) for number, shuffle in enumerate(self._shuffles)]


class Shuffle:
    """The clips of one set, in another order every epoch."""

    def __init__(self, sizes: NDArray[np.int64], seed: tuple[int, int], window: int) -> None:
        self.sizes = np.asarray(sizes, np.int64)
        self.first = np.cumsum(self.sizes) - self.sizes
        self.total = int(self.sizes.sum())
        if not self.total:
            raise ValueError("a set without clips has no order")
        self.seed, self.window = seed, window
        self._epoch = lru_cache(_EPOCHS)(self._make_epoch)  # of this object, with it to be forgotten
        self._clips = lru_cache(_WINDOWS)(self._make_clips)

    def __call__(self, place: int) -> tuple[int, int]:
        """Return epoch and index of the clip at a place."""
        epoch, place = divmod(place, self.total)
        _, starts = self._epoch(epoch)
        number = int(np.searchsorted(starts, place, side="right")) - 1
        return epoch, int(self._clips(epoch, number)[place - int(starts[number])])

    def windows(self, place: int) -> tuple[list[int], list[int]]:
        """Return the shards of the window that a place is in, and those of the next."""
        epoch, place = divmod(place, self.total)
        starts = self._epoch(epoch)[1]
        number = int(np.searchsorted(starts, place, side="right")) - 1
        after = (epoch, number + 1) if number + 1 < len(starts) else (epoch + 1, 0)
        return self._shards(epoch, number), self._shards(*after)

    def _shards(self, epoch: int, number: int) -> list[int]:
        shards: list[int] = self._epoch(epoch)[0][number * self.window : (number + 1) * self.window].tolist()
        return shards

    def _make_epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shards in their order, and the place where each window begins."""
        order = self._rng(epoch, 0).permutation(np.flatnonzero(self.sizes))  # empty ones would make empty windows
        ends = np.cumsum(self.sizes[order])
        return order, np.concatenate(([0], ends[self.window - 1 : -1 : self.window]))

    def _make_clips(self, epoch: int, number: int) -> NDArray[np.integer[Any]]:
        """Return the clips of a window, permuted. int32 for sets that allow it: one shard may hold a whole set."""
        kind = np.int32 if self.total <= np.iinfo(np.int32).max else np.int64
        shards = self._shards(epoch, number)
        clips = np.concatenate([np.arange(self.sizes[s], dtype=kind) + kind(self.first[s]) for s in shards])
        self._rng(epoch, number + 1).shuffle(clips)
        return clips

    def _rng(self, epoch: int, number: int) -> np.random.Generator:
        seed, of_set = self.seed
        return numpy_generator(seed, TrainingDraw.ORDER, of_set, epoch, number)


class Turns:
    """Whose turn it is at a position. Over a period (the sum of the shares, as whole numbers) each set has exactly its
    share of the turns, and on the way there it is never far from it.

    The sets are halved until each is alone; at every fork, of the first n turns the left side gets its share of n,
    rounded.
    """

    def __init__(self, shares: Sequence[Fraction | int]) -> None:
        exact = [Fraction(share) for share in shares]
        if not exact or min(exact) <= 0:
            raise ValueError(f"shares {[str(share) for share in shares]}: each must be above 0")
        whole = lcm(*(share.denominator for share in exact))
        self.shares = [int(share * whole) for share in exact]

    def __call__(self, position: int) -> tuple[int, int]:
        """Return whose turn it is, and how many turns that set had before."""
        first, end = 0, len(self.shares)
        while end - first > 1:
            middle = (first + end) // 2
            before, after = (self._left(first, middle, end, n) for n in (position, position + 1))
            if after > before:
                position, end = before, middle
            else:
                position, first = position - before, middle
        return first, position

    def taken(self, number: int, position: int) -> int:
        """Return how many turns a set has had before a position."""
        first, end = 0, len(self.shares)
        while end - first > 1:
            middle = (first + end) // 2
            left = self._left(first, middle, end, position)
            if number < middle:
                position, end = left, middle
            else:
                position, first = position - left, middle
        return position

    def _left(self, first: int, middle: int, end: int, turns: int) -> int:
        left, both = sum(self.shares[first:middle]), sum(self.shares[first:end])
        return (turns * left + both // 2) // both
