"""The budget of requests: never faster than told, slower when asked to, silent while refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.youtube.budget import AHEAD_S, MIN_RATE_SHARE, BudgetConfig, LocalBudget, Parked, wait_for_turn
from tests.fakes.clock import FakeClock

HOUR_S = 3_600


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def budget_of(clock: FakeClock, *egresses: str, **settings: Any) -> LocalBudget:
    return LocalBudget(BudgetConfig(**settings), egresses or ("direct",), clock)


def send(budget: LocalBudget, clock: FakeClock, count: int, egress: str = "direct") -> list[float]:
    """When each of `count` requests goes out, one after the other."""
    times = []
    for _ in range(count):
        wait_for_turn(budget, egress, clock.sleep)
        times.append(clock.now)
    return times


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 20),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.5, 3.0, 100.0]), min_size=1, max_size=80),
)
def test_no_stretch_of_time_holds_more_requests_than_its_rate_and_one_burst(
    rate: float, burst: int, pauses: list[float]
) -> None:
    clock = FakeClock()
    budget = budget_of(clock, requests_per_s=rate, burst=burst)
    times = []
    for pause_s in pauses:
        clock.sleep(pause_s)
        times += send(budget, clock, 1)
    for i, first in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + (times[j] - first) * rate + 1e-3


def test_an_idle_budget_lets_a_burst_out_at_once_and_then_keeps_its_pace(clock: FakeClock) -> None:
    start = clock.now
    times = send(budget_of(clock, requests_per_s=2.0, burst=4), clock, 8)
    assert [round(at - start, 6) for at in times] == [0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0]


def test_requests_that_wait_together_are_spread_out(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=2.0, burst=1)
    assert [round(budget.take("direct"), 6) for _ in range(4)] == [0, 0.5, 1.0, 1.5]


def test_nothing_is_reserved_far_ahead(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=1.0, burst=1)
    waits = [budget.take("direct") for _ in range(50)]
    assert max(waits) == waits[-1] == pytest.approx(AHEAD_S + 1)
    clock.sleep(AHEAD_S + 1)
    assert budget.take("direct") == 0


def test_a_429_halves_the_rate_once_for_all_that_was_under_way(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=8.0, burst=1)
    for _ in range(10):
        budget.slow_down("direct", None)
    times = send(budget, clock, 3)
    assert times[1] - times[0] == pytest.approx(1 / 4)


def test_a_rate_falls_to_a_floor_and_comes_back_with_answers(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=8.0, burst=1, recovery_answers=100)
    for _ in range(30):
        budget.slow_down("direct", None)
        clock.sleep(60)
    times = send(budget, clock, 3)
    assert times[2] - times[1] == pytest.approx(1 / (8 * MIN_RATE_SHARE))
    for _ in range(100):
        budget.answered("direct")
    clock.sleep(60)
    times = send(budget, clock, 3)
    assert times[2] - times[1] == pytest.approx(1 / 8)


def test_retry_after_is_obeyed(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=8.0, burst=4)
    asked = clock.now
    budget.slow_down("direct", 30.0)
    assert send(budget, clock, 1)[0] >= asked + 30


def test_a_block_of_an_hour_parks_and_the_egress_opens_after_it_without_a_burst(clock: FakeClock) -> None:
    budget = budget_of(clock, requests_per_s=8.0, burst=4)
    blocked = clock.now
    budget.park("direct", "ip_blocked", HOUR_S)
    assert budget.open() == ()
    assert budget.parked_until() == blocked + HOUR_S
    with pytest.raises(Parked) as refused:
        budget.take("direct")
    assert (refused.value.until, refused.value.reason) == (blocked + HOUR_S, "ip_blocked")
    clock.sleep(HOUR_S)
    assert budget.parked_until() is None
    assert budget.open() == ("direct",)
    times = send(budget, clock, 3)
    assert times[1] - times[0] == pytest.approx(1 / 8)


def test_each_park_in_a_row_is_longer_up_to_a_limit_and_an_answer_ends_the_row(clock: FakeClock) -> None:
    budget = budget_of(clock, park_s=100, max_park_s=500)

    def parked_s() -> float:
        budget.park("direct", "bot_check")
        until = budget.parked_until()
        assert until is not None
        seconds = until - clock.now
        clock.sleep(seconds)
        return seconds

    assert [parked_s() for _ in range(5)] == [100, 200, 400, 500, 500]
    budget.answered("direct")
    assert parked_s() == 100


def test_refusals_of_requests_under_way_count_as_one_park(clock: FakeClock) -> None:
    budget = budget_of(clock, park_s=100, max_park_s=10_000)
    for _ in range(50):
        budget.park("direct", "ip_blocked")
    assert budget.parked_until() == clock.now + 100


def test_egresses_are_independent_and_the_least_loaded_comes_first(clock: FakeClock) -> None:
    budget = budget_of(clock, "a", "b", "c", requests_per_s=1.0, burst=1)
    budget.take("a")
    budget.take("a")
    budget.take("b")
    assert budget.open() == ("c", "b", "a")
    budget.park("c", "ip_blocked", 60)
    assert budget.open() == ("b", "a")
    assert budget.parked_until() is None


@pytest.mark.parametrize(
    "setting", [{"requests_per_s": 0}, {"burst": 0}, {"recovery_answers": 0}, {"park_s": 0}, {"max_park_s": 1}]
)
def test_settings_that_mean_nothing_are_refused_by_name(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        BudgetConfig(**setting)
