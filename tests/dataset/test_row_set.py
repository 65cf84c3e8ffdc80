"""Row sets behave like sets, and equal ones have equal ranges."""

from hypothesis import given
from hypothesis import strategies as st

from autorecap.dataset.row_set import RowSet

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def members(pairs):
    return {row for first, end in pairs for row in range(first, end)}


@given(ranges, ranges, st.integers(0, 70))
def test_row_sets_behave_like_sets(a, b, count):
    left, right = RowSet.of(a), RowSet.of(b)
    assert set(left) == members(a)
    assert set(left | right) == members(a) | members(b)
    assert set(left - right) == members(a) - members(b)
    assert len(left) == len(members(a))
    assert all((row in left) == (row in members(a)) for row in range(-1, 65))
    assert list(left.first(count)) == sorted(members(a))[:count]


@given(ranges, ranges)
def test_equal_row_sets_have_equal_ranges(a, b):
    assert ((RowSet.of(a) - RowSet.of(b)) | RowSet.of(b)) == (RowSet.of(a) | RowSet.of(b))
