"""One budget of requests for a whole cluster: an actor that keeps it, and the object through which workers use it.

A request costs a call that is waited for (`take`: 1.8 ms, 0.6 ms of them the caller's CPU time, on the actor's node
with two busy cores), an answer a call that is not (`answered`, 0.3 ms of CPU time). The actor never waits: it reserves
a turn, and the caller waits for it.
"""

from collections.abc import Sequence
from typing import Any

import ray

from autorecap.stages.youtube.budget import BudgetConfig, LocalBudget, Parked

_CALL_TIMEOUT_S = 120.0  # longer than it takes to replace the actor's node


class _Keeper:
    """The actor. After a restart it does not know which egresses were parked, and begins slowly."""

    def __init__(self, config: BudgetConfig, egresses: Sequence[str]) -> None:
        self.budget = LocalBudget(config, egresses)
        if ray.get_runtime_context().was_current_actor_reconstructed:
            for name in egresses:
                self.budget.slow_down(name, None)

    def take(self, egress: str) -> float | tuple[float, str]:
        """Return the seconds to wait; of a parked egress, until when and why: an exception would cost a traceback."""
        try:
            return self.budget.take(egress)
        except Parked as parked:
            return parked.until, parked.reason

    def open(self) -> tuple[str, ...]:
        return self.budget.open()

    def answered(self, egress: str) -> None:
        self.budget.answered(egress)

    def slow_down(self, egress: str, retry_after_s: float | None) -> None:
        self.budget.slow_down(egress, retry_after_s)

    def park(self, egress: str, reason: str, seconds: float | None) -> None:
        self.budget.park(egress, reason, seconds)

    def parked_until(self) -> float | None:
        return self.budget.parked_until()


class SharedBudget:
    """A `Budget` that calls the actor. It can be sent to workers, and lives as long as the driver."""

    def __init__(self, config: BudgetConfig, egresses: Sequence[str]) -> None:
        keeper = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Keeper)
        self._keeper: Any = keeper.remote(config, list(egresses))

    def take(self, egress: str) -> float:
        answer: float | tuple[float, str] = self._wait_for(self._keeper.take.remote(egress))
        if isinstance(answer, tuple):
            raise Parked(*answer)
        return answer

    def open(self) -> tuple[str, ...]:
        egresses: tuple[str, ...] = self._wait_for(self._keeper.open.remote())
        return egresses

    def answered(self, egress: str) -> None:
        self._keeper.answered.remote(egress)

    def slow_down(self, egress: str, retry_after_s: float | None) -> None:
        self._wait_for(self._keeper.slow_down.remote(egress, retry_after_s))  # before the next request takes its turn

    def park(self, egress: str, reason: str, seconds: float | None = None) -> None:
        self._wait_for(self._keeper.park.remote(egress, reason, seconds))

    def parked_until(self) -> float | None:
        until: float | None = self._wait_for(self._keeper.parked_until.remote())
        return until

    def _wait_for(self, answer: Any) -> Any:
        return ray.get(answer, timeout=_CALL_TIMEOUT_S)
