"""What Ray's workers run in test_train_on_ray: recipes of the project that wait for something to happen."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed as dist

from autorecap.training.autocap.recipe import train_autocap
from autorecap.training.loop.stop_requests import REQUESTS

STEP_3, STEP_5 = "step      3 ", "step      5 "
LIMIT_S = 120


def train_and_wait(config: Any, data: list[str], out: str, *, say: Callable[[str], None], **options: Any) -> Any:
    """AutoCap's recipe. Each process writes down its pid; at step 3 the first one waits until OUT/go exists."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    Path(out, f"pid-{rank}").write_text(str(os.getpid()))

    def say_and_wait(line: str) -> None:
        say(line)
        if line.startswith(STEP_3):
            _wait(Path(out, "go").exists)

    return train_autocap(config, data, out, say=say_and_wait, **options)


def train_until_told(config: Any, data: list[str], out: str, *, say: Callable[[str], None], **options: Any) -> Any:
    """AutoCap's recipe. With two processes it waits at step 3 until it hears that a machine is about to go, and at step
    5 until it is gone, which ends this process."""

    def say_and_wait(line: str) -> None:
        say(line)
        if dist.is_initialized() and dist.get_world_size() > 1:
            if line.startswith(STEP_3):
                _wait(lambda: REQUESTS.save)
            if line.startswith(STEP_5):
                _wait(lambda: False)

    return train_autocap(config, data, out, say=say_and_wait, **options)


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not until() and time.monotonic() < deadline:
        time.sleep(0.05)
