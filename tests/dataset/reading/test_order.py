"""The order of clips: every one once an epoch, sets in their shares, and nothing but position and seed behind it."""

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autorecap.dataset.reading.order import Order, Place, Shuffle, Turns
from tests.support.examples import examples

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any)
SEEDS = st.integers(0, 2**63)


def places(order: Order, positions: range) -> list[Place]:
    return [order(position) for position in positions]


@given(SIZES, SEEDS, st.integers(1, 14), st.integers(0, 3))
@examples(150)
def test_every_clip_comes_once_an_epoch_whatever_the_shards(sizes, seed, window, epoch):
    shuffle = Shuffle(np.array(sizes), (seed, 0), window)
    total = sum(sizes)
    seen = [shuffle(place) for place in range(epoch * total, (epoch + 1) * total)]
    assert {e for e, _ in seen} == {epoch}
    assert sorted(index for _, index in seen) == list(range(total))


@given(SIZES, SEEDS, st.integers(1, 14))
@examples(60)
def test_a_position_means_the_same_whatever_was_asked_before(sizes, seed, window):
    total = sum(sizes)
    forward = Shuffle(np.array(sizes), (seed, 0), window)
    backward = Shuffle(np.array(sizes), (seed, 0), window)
    positions = range(3 * total)
    assert [forward(p) for p in positions] == [backward(p) for p in reversed(positions)][::-1]


@given(SIZES, SEEDS, st.integers(1, 5))
@examples(60)
def test_no_more_than_a_window_of_shards_is_open_at_once(sizes, seed, window):
    shuffle = Shuffle(np.array(sizes), (seed, 0), window)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    for place in range(2 * sum(sizes)):
        now, then = shuffle.windows(place)
        assert len(now) <= window and shard_of[shuffle(place)[1]] in now
        if place + 1 < 2 * sum(sizes):
            assert shard_of[shuffle(place + 1)[1]] in {*now, *then}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(0, 2))
@examples(150)
def test_over_a_period_each_set_has_exactly_its_share_and_is_near_it_on_the_way(shares, period):
    turns, total = Turns(shares), sum(shares)
    count = Counter[int]()
    count.update({number: share * period for number, share in enumerate(shares)})
    forks = max(len(shares) - 1, 0).bit_length()
    for position in range(period * total, (period + 1) * total):
        assert [turns.taken(number, position) for number in range(len(shares))] == [
            count[n] for n in range(len(shares))
        ]
        number, before = turns(position)
        assert before == count[number]
        count[number] += 1
        for n, share in enumerate(shares):
            assert abs(count[n] - (position + 1) * share / total) <= forks / 2
    assert all(count[n] == share * (period + 1) for n, share in enumerate(shares))


@given(st.lists(st.fractions(Fraction(1, 1000), 100), min_size=2, max_size=5), st.integers(10**6, 10**12))
@examples(60)
def test_shares_in_fractions_converge_however_far_a_run_has_come(shares, position):
    turns = Turns(shares)
    for number, share in enumerate(shares):
        assert abs(Fraction(turns.taken(number, position), position) - share / sum(shares)) < Fraction(3, position)


def test_sets_without_weights_are_one_list_and_weighted_ones_have_epochs_of_their_own():
    sets = [np.array([3, 4]), np.array([5])]
    plain = places(Order(sets, [7, 5], 1, 2), range(24))
    for epoch in range(2):
        part = plain[12 * epoch : 12 * (epoch + 1)]
        assert sorted(part) == [(0, i) for i in range(7)] + [(1, i) for i in range(5)]
    mixed = places(Order(sets, [1, 3], 1, 2), range(280))
    for number, size, share in ((0, 7, 70), (1, 5, 210)):
        indices = [i for n, i in mixed if n == number]
        assert len(indices) == share
        for epoch in range(share // size):
            assert sorted(indices[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_seeds_epochs_and_sets_are_shuffled_each_in_its_own_way():
    sizes = np.array([40] * 5)
    orders = {
        (seed, number, epoch): tuple(Shuffle(sizes, (seed, number), 2)(epoch * 200 + place)[1] for place in range(200))
        for seed in (0, 1)
        for number in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 8


def test_a_set_of_57_million_clips_is_shuffled_in_little_memory():
    shuffle = Shuffle(np.full(71_000, 803), (0, 0), 32)
    indices = {shuffle(place)[1] for place in range(40_000_000, 40_030_000)}
    assert len(indices) == 30_000
    assert shuffle._clips(0, 3).nbytes < 110_000
