"""One action on YouTube is tried by one egress after the other, for so long and no longer."""

from itertools import pairwise

import pytest
import requests

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.budget import BudgetConfig, LocalBudget
from autorecap.stages.youtube.egresses import Egresses
from autorecap.stages.youtube.problem import Problem
from tests.fakes.clock import FakeClock


def egresses_of(clock: FakeClock, limit_s: float = 60.0, names=("a", "b")) -> Egresses:
    budget = LocalBudget(BudgetConfig(requests_per_s=1_000, burst=100), list(names), clock)
    return Egresses(budget, limit_s, clock=clock, sleep=clock.sleep)


def test_other_egresses_are_tried_for_so_long_and_no_longer():
    clock = FakeClock()
    egresses = egresses_of(clock, limit_s=60.0, names=[f"e{number}" for number in range(100)])
    asked = []

    def refused(egress: str) -> None:
        asked.append(egress)
        clock.sleep(7.0)
        raise Problem(Reason.BOT_CHECK, "no")

    with pytest.raises(Problem) as raised:
        egresses.attempt(refused)
    assert raised.value.reason is Reason.BOT_CHECK and raised.value.not_before is None, "others are still open"
    assert len(asked) == len(set(asked)) == 9


def test_what_fails_for_a_moment_is_tried_three_times_with_pauses_that_grow():
    clock = FakeClock()
    times = []

    def broken(egress: str) -> None:
        times.append(clock.now)
        raise requests.exceptions.ConnectionError("reset")

    with pytest.raises(Problem):
        egresses_of(clock).attempt(broken)
    pauses = [after - before for before, after in pairwise(times)]
    assert len(pauses) == 2 and 0.5 <= pauses[0] <= 1.5 and 1.0 <= pauses[1] <= 3.0


@pytest.mark.parametrize("reason", [Reason.PRIVATE, Reason.NO_TRANSCRIPT, Reason.PO_TOKEN_REQUIRED, Reason.UPCOMING])
def test_what_is_said_of_the_video_is_said_once(reason):
    asked = []

    def says(egress: str) -> None:
        asked.append(egress)
        raise Problem(reason, "so it is")

    with pytest.raises(Problem):
        egresses_of(FakeClock()).attempt(says)
    assert len(asked) == 1


def test_the_reason_for_which_egresses_are_parked_is_that_of_the_videos_that_wait():
    clock = FakeClock()
    egresses = egresses_of(clock)

    def refused(egress: str) -> None:
        raise Problem(Reason.IP_BLOCKED, "a captcha")

    for _ in range(2):
        with pytest.raises(Problem) as raised:
            egresses.attempt(refused)
        assert raised.value.reason is Reason.IP_BLOCKED
        assert raised.value.not_before is not None
        assert raised.value.not_before == egresses.budget.parked_until()
