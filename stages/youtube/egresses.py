"""Tries an action on YouTube by one egress after another: a refused egress is parked, and the next one tries."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from autorecap.stages.reasons import Reason, Status
from autorecap.stages.youtube.budget import Budget, Clock, Parked
from autorecap.stages.youtube.errors import problem_of
from autorecap.stages.youtube.problem import Problem

Value = TypeVar("Value")

_MAX_TRIES = 3  # of actions that fail for a moment: connections, servers, answers that were cut off
_FIRST_PAUSE_S = 1.0
_STRIKES = 2  # answers of 429 in one video after which its egress is parked; the first one slows it down
_NOT_IN_A_MINUTE = (Reason.PO_TOKEN_REQUIRED, Reason.UPCOMING)
"""Reasons for another try, but not now: what would help does not come in a minute."""


class Egresses:
    """Tries actions by the egresses that are open."""

    def __init__(
        self,
        budget: Budget,
        limit_s: float,
        *,
        clock: Clock = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`limit_s`: how long one action may be tried."""
        self.budget, self.limit_s, self.clock, self.sleep = budget, limit_s, clock, sleep
        self._last_refusal = Reason.RATE_LIMITED  # in this process: why egresses are parked, as far as known

    def attempt(self, action: Callable[[str], Value]) -> Value:
        """Return what `action(egress)` returns.

        A refusal parks the egress, and the next one tries. What fails for a moment is tried again after a pause. What
        YouTube says of the video itself is not asked again. Raises the last Problem, with `not_before` where egresses
        were parked.
        """
        deadline = self.clock() + self.limit_s
        strikes: dict[str, int] = {}
        tries = 0
        problem: Problem | None = None
        while True:
            egress = self._open_egress(problem)
            try:
                value = action(egress)
                self.budget.answered(egress)
                return value
            except Parked:
                continue  # another thread has parked it while this one waited for its turn
            except Exception as error:  # two libraries raise them: `problem_of` knows all
                problem = problem_of(error)
            if problem.reason.parks:
                self._last_refusal = problem.reason
                strikes[egress] = strikes.get(egress, 0) + 1
                if problem.reason is not Reason.RATE_LIMITED or strikes[egress] >= _STRIKES:
                    self.budget.park(egress, problem.reason.code)
                if self.clock() >= deadline:
                    raise self._refused(problem) from None
                continue
            tries += 1
            is_of_video = problem.reason.status is not Status.RETRY
            if is_of_video:
                self.budget.answered(egress)
            passes = not is_of_video and problem.reason not in _NOT_IN_A_MINUTE
            if not passes or tries >= _MAX_TRIES or self.clock() >= deadline:
                raise problem from None
            self.sleep(_FIRST_PAUSE_S * 2 ** (tries - 1) * random.uniform(0.5, 1.5))  # noqa: S311  no secret

    def _open_egress(self, problem: Problem | None) -> str:
        """Return the least loaded egress. Raises Problem where all are parked: the one just met, if there is one."""
        names = self.budget.open()
        if names:
            return names[0]
        if problem is not None and problem.reason.parks:
            raise self._refused(problem)
        raise Problem(self._last_refusal, "every egress is parked", not_before=self.budget.parked_until())

    def _refused(self, problem: Problem) -> Problem:
        return Problem(problem.reason, problem.detail, not_before=self.budget.parked_until(), refused=True)
