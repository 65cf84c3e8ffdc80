"""Sets of plan rows as sorted, disjoint ranges: 73 million finished rows are a handful of pairs."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Range = tuple[int, int]
"""[first, end)"""


@dataclass(frozen=True)
class RowSet:
    """An immutable set of row numbers. `ranges` are sorted, disjoint, never touching and never empty."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> "RowSet":
        """Return the union of any ranges, in any order."""
        merged: list[Range] = []
        for first, end in sorted(r for r in ranges if r[0] < r[1]):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((first, end))
        return cls(tuple(merged))

    @classmethod
    def of_rows(cls, rows: Iterable[int]) -> "RowSet":
        return cls.of((row, row + 1) for row in rows)

    def __or__(self, other: "RowSet") -> "RowSet":
        return RowSet.of(self.ranges + other.ranges)

    def __sub__(self, other: "RowSet") -> "RowSet":
        left: list[Range] = []
        cuts = other.ranges
        i = 0
        for first, end in self.ranges:
            while i < len(cuts) and cuts[i][1] <= first:
                i += 1
            j = i
            while j < len(cuts) and cuts[j][0] < end:
                if cuts[j][0] > first:
                    left.append((first, cuts[j][0]))
                first = max(first, cuts[j][1])
                j += 1
            if first < end:
                left.append((first, end))
        return RowSet(tuple(left))

    def __contains__(self, row: int) -> bool:
        i = bisect_right(self.ranges, (row, float("inf"))) - 1
        return i >= 0 and row < self.ranges[i][1]

    def __len__(self) -> int:
        return sum(end - first for first, end in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, end in self.ranges:
            yield from range(first, end)

    def first(self, count: int) -> "RowSet":
        """Return the `count` smallest rows."""
        taken: list[Range] = []
        for first, end in self.ranges:
            if count <= 0:
                break
            taken.append((first, min(end, first + count)))
            count -= end - first
        return RowSet(tuple(taken))
