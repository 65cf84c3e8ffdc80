"""How many workers a training has, and what each gets. Ray is not needed to say it."""

import re
from dataclasses import dataclass
from typing import Any

from autorecap.base.errors import BAD_USAGE, ForeseenError


class LaunchError(ForeseenError):
    """The run cannot be started on this cluster as it was asked to."""

    exit_code = BAD_USAGE


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes, and what Ray sets aside for each."""

    least: int = 1
    most: int = 1
    cpus: float = 1  # for each on CPUs. With GPUs each has one, and no CPU: nodes may give none away
    max_failures: int = 10  # restarts after failures; those after a machine was taken away do not count
    resize_s: float = 60.0  # how often Ray looks whether the cluster has room for more workers

    @classmethod
    def parse(cls, text: str, **others: Any) -> "Workers":
        """`4`, or `2:8` for at least 2 and up to 8. Raises LaunchError."""
        found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= least <= most:
            raise LaunchError(f"--workers {text}: write a number, or MIN:MAX as in 2:8")
        return cls(least=least, most=most, **others)

    def __str__(self) -> str:
        count = f"{self.least} to {self.most}" if self.least < self.most else f"{self.least}"
        return f"{count} workers" if self.most > 1 else "one worker"

    def resources(self, on_gpu: bool) -> dict[str, float]:
        """What Ray sets aside for each."""
        return {"GPU": 1.0} if on_gpu else {"CPU": self.cpus}
