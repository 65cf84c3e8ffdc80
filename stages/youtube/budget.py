"""Limits how fast a service is asked, from each egress.

An egress is an address or proxy by which requests leave, with its cookies. Each has a token bucket: every HTTP request
takes one token. A 429 halves the rate of its egress; answers bring it back, little by little. An egress that is
blocked, or asked to prove that it is no bot, is parked: no request leaves by it for a while, each time for longer,
until it has brought an answer.

An answer is what was asked for, or what the service says of a video. A single request that goes well is not an answer,
since refusals come as pages, too, with HTTP 200.

`Budget` is what the stages see. `LocalBudget` keeps it for the threads of one process; the workers of a cluster
share one, which a process of its own keeps.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autorecap.base.settings import Section, check, setting

Clock = Callable[[], float]
"""A clock in Unix time, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Egress:
    """An address or proxy by which requests leave, with its cookies."""

    name: str  # for people and ledgers; holds no password
    proxy: str = ""  # "": this machine's own address; socks5://host:port, http://user:password@host:port
    cookies: str = ""  # path of a Netscape cookie file; "": none


class Parked(Exception):
    """No request may leave by this egress now. `until`: Unix time."""

    def __init__(self, until: float, reason: str) -> None:
        super().__init__(f"parked until {until:.0f} ({reason})")
        self.until, self.reason = until, reason


class Budget(Protocol):
    """Grants every request, and hears what came of it. It never blocks."""

    def take(self, egress: str) -> float:
        """Reserve one request and return the seconds to wait before it is sent. Raises Parked.

        Nothing is reserved where the wait would be longer than `AHEAD_S`: the caller waits and asks again.
        """
        ...

    def open(self) -> tuple[str, ...]:
        """Return the egresses that are not parked, the least loaded first."""
        ...

    def answered(self, egress: str) -> None:
        """Note that an answer came by this egress."""
        ...

    def slow_down(self, egress: str, retry_after_s: float | None) -> None:
        """Note that the service answered 429; `retry_after_s`: the pause it asked for, if any."""
        ...

    def park(self, egress: str, reason: str, seconds: float | None = None) -> None:
        """Note that the service refuses this egress; `seconds`: for how long, where that is known."""
        ...

    def parked_until(self) -> float | None:
        """Return the Unix time at which the first egress opens again; None while one is open."""
        ...


@dataclass(frozen=True, kw_only=True)
class BudgetConfig(Section, name="youtube.budget"):
    """Settings of the budget: how fast each egress may go."""

    requests_per_s: float = setting(
        2.0,
        "Requests per second and egress. A transcript takes two, the audio of a video three to six. YouTube does not "
        "say what it allows: begin low.",
        gt=0,
        le=10_000,
    )
    burst: int = setting(4, "Requests that may go out at once after a pause.", ge=1)
    recovery_answers: int = setting(
        100,
        "Answers (transcripts, audio of videos) after which a rate that was halved is back at its setting.",
        ge=1,
    )
    park_s: int = setting(
        900, "Seconds for which an egress is parked when it is refused; doubled each time in a row.", ge=1
    )
    max_park_s: int = setting(
        21_600, "Seconds for which it is parked at most. Blocks of addresses last for hours.", ge=1
    )

    def validate(self) -> None:
        check(
            self.max_park_s >= self.park_s,
            "youtube.budget.max_park_s",
            f"expected park_s, {self.park_s}, or more, found {self.max_park_s}",
        )


AHEAD_S = 5.0
"""How far ahead a request is reserved. A longer wait would send requests minutes after their egress was refused."""
MIN_RATE_SHARE = 1 / 64
"""The lowest share of its rate to which an egress is slowed: slower than that is a block, and it is parked."""
_MAX_RETRY_AFTER_S = 86_400.0  # what a service asks for beyond a day is taken for a mistake


@dataclass
class _Bucket:
    """The state of one egress. Times are Unix times."""

    rate: float  # requests per second, now
    due: float = 0.0  # when the next request would be sent at an even pace; a burst may run ahead of it
    parked_until: float = 0.0
    parked_for: str = ""
    times_parked: int = 0  # in a row, without an answer between
    slowed_at: float = field(default=float("-inf"))


class LocalBudget:
    """The budget of the threads of one process."""

    def __init__(self, config: BudgetConfig, egresses: Sequence[str], clock: Clock = time.time) -> None:
        if not egresses:
            raise ValueError("a budget needs at least one egress")
        self.config, self.clock = config, clock
        self._buckets = {name: _Bucket(config.requests_per_s) for name in egresses}
        self._lock = threading.Lock()

    def take(self, egress: str) -> float:
        with self._lock:
            now, bucket = self.clock(), self._buckets[egress]
            if bucket.parked_until > now:
                raise Parked(bucket.parked_until, bucket.parked_for)
            due = max(bucket.due, now)
            wait_s = max(0.0, due - self._lead_s(bucket) - now)
            if wait_s <= AHEAD_S:
                bucket.due = due + 1 / bucket.rate
            return wait_s

    def _lead_s(self, bucket: _Bucket) -> float:
        """Return by how much a burst may run ahead of the even pace."""
        return (self.config.burst - 1) / bucket.rate

    def open(self) -> tuple[str, ...]:
        with self._lock:
            now = self.clock()
            free = [(bucket.due, name) for name, bucket in self._buckets.items() if bucket.parked_until <= now]
        return tuple(name for _, name in sorted(free))

    def answered(self, egress: str) -> None:
        with self._lock:
            bucket = self._buckets[egress]
            if bucket.parked_until > self.clock():
                return  # this answer was under way when the egress was refused
            bucket.times_parked = 0
            full = self.config.requests_per_s
            bucket.rate = min(full, bucket.rate + full / self.config.recovery_answers)

    def slow_down(self, egress: str, retry_after_s: float | None) -> None:
        with self._lock:
            now, bucket = self.clock(), self._buckets[egress]
            # Requests that were under way together are refused together: that is one message, not ten.
            if now - bucket.slowed_at >= 1 / bucket.rate:
                bucket.rate = max(bucket.rate / 2, self.config.requests_per_s * MIN_RATE_SHARE)
                bucket.slowed_at = now
            pause_s = min(retry_after_s or 1 / bucket.rate, _MAX_RETRY_AFTER_S)
            bucket.due = max(bucket.due, now + pause_s + self._lead_s(bucket))

    def park(self, egress: str, reason: str, seconds: float | None = None) -> None:
        with self._lock:
            now, bucket = self.clock(), self._buckets[egress]
            if bucket.parked_until > now and seconds is None:
                return  # another request that was under way when the block began
            longer_s = min(self.config.park_s * 2**bucket.times_parked, self.config.max_park_s)
            bucket.times_parked = min(bucket.times_parked + 1, 32)
            bucket.parked_until = max(bucket.parked_until, now + min(seconds or longer_s, _MAX_RETRY_AFTER_S))
            bucket.parked_for = reason
            bucket.due = bucket.parked_until + self._lead_s(bucket)  # no burst when it opens

    def parked_until(self) -> float | None:
        with self._lock:
            now = self.clock()
            opens = [bucket.parked_until for bucket in self._buckets.values()]
        return None if min(opens) <= now else min(opens)


def wait_for_turn(budget: Budget, egress: str, sleep: Callable[[float], object] = time.sleep) -> None:
    """Sleep until one request may go out by this egress. Raises Parked."""
    while (wait_s := budget.take(egress)) > AHEAD_S:
        sleep(AHEAD_S)
    if wait_s:
        sleep(wait_s)
