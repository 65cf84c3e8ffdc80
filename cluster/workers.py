"""Workers of a training: their number and the resources of each. Needs no Ray."""

import re
from dataclasses import dataclass
from typing import Any

from autorecap.base.errors import BAD_USAGE, ForeseenError


class LaunchError(ForeseenError):
    """A run cannot be started on this cluster with these arguments."""

    exit_code = BAD_USAGE


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Number of worker processes, and the resources that Ray reserves for each."""

    least: int = 1
    most: int = 1
    cpus: float = 1  # per worker without GPUs. With GPUs each has one, and no CPU: GPU nodes may have none to spare
    max_failures: int = 10  # restarts after failures; restarts because a machine was taken away do not count
    resize_s: float = 60.0  # from one look of Ray for room for more workers to the next

    @classmethod
    def parse(cls, text: str, **others: Any) -> "Workers":
        """Read `4`, or `2:8` for at least 2 and up to 8. Raises LaunchError."""
        match = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= least <= most:
            raise LaunchError(f"--workers {text}: write a number, or MIN:MAX as in 2:8")
        return cls(least=least, most=most, **others)

    def __str__(self) -> str:
        count = f"{self.least} to {self.most}" if self.least < self.most else f"{self.least}"
        return f"{count} workers" if self.most > 1 else "one worker"

    def resources(self, on_gpu: bool) -> dict[str, float]:
        """Return the resources that Ray reserves for each worker."""
        return {"GPU": 1.0} if on_gpu else {"CPU": self.cpus}
