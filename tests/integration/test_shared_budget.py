"""One budget for all workers of a cluster: the rate, the parks and the death of the actor that keeps it.

The module is cluster/budget.py.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from autorecap.cluster.budget import SharedBudget
from autorecap.cluster.start import connected
from autorecap.stages.youtube.budget import BudgetConfig, Parked, wait_for_turn

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster(ray_address) -> Iterator[None]:
    with connected(ray_address):
        yield


@ray.remote(num_cpus=0)
class Asker:
    """A worker, in a process of its own."""

    def __init__(self, budget: SharedBudget) -> None:
        self.budget = budget

    def ask(self, count: int) -> float:
        """Ask for so many turns, one after the other; when the first was asked for."""
        began = time.time()
        for _ in range(count):
            wait_for_turn(self.budget, "direct")
            self.budget.answered("direct")
        return began

    def park(self, reason: str, seconds: float) -> None:
        self.budget.park("direct", reason, seconds)


def start(budget: SharedBudget) -> Any:
    asker: Any = Asker  # ray gives the class a `remote` of which types know nothing
    return asker.remote(budget)


def test_workers_share_one_rate(cluster):
    rate, burst, each = 50, 5, 40
    budget = SharedBudget(BudgetConfig(requests_per_s=rate, burst=burst), ["direct"])
    askers = [start(budget) for _ in range(3)]
    began = min(ray.get([asker.ask.remote(each) for asker in askers]))
    assert time.time() - began >= (len(askers) * each - burst) / rate - 0.1


def test_what_one_worker_parks_is_parked_for_all(cluster):
    budget = SharedBudget(BudgetConfig(), ["direct", "socks5h://10.0.0.7:1080"])
    parked_at = time.time()
    ray.get(start(budget).park.remote("bot_check", 3_600))
    assert budget.open() == ("socks5h://10.0.0.7:1080",) and budget.parked_until() is None
    with pytest.raises(Parked) as refused:
        budget.take("direct")
    assert refused.value.reason == "bot_check" and refused.value.until >= parked_at + 3_600
    budget.park("socks5h://10.0.0.7:1080", "ip_blocked", 7_200)
    assert budget.parked_until() == refused.value.until


def test_an_actor_that_died_is_replaced_and_the_new_one_begins_slowly(cluster):
    budget = SharedBudget(BudgetConfig(requests_per_s=0.1, burst=1_000), ["direct"])
    assert budget.take("direct") == 0
    ray.kill(budget._keeper, no_restart=False)  # returns at once: the old one may still answer, and always with 0
    deadline = time.monotonic() + 60
    while (wait_s := budget.take("direct")) == 0:
        assert time.monotonic() < deadline, "what was sent before is not known any more, so there is no burst"
        time.sleep(0.05)
    assert wait_s > 0
