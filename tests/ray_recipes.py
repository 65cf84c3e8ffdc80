"""What Ray's workers run in test_train_on_ray: recipes of the project that leave time to be killed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import distributed as dist

from pipeline.training.autocap_recipe import train_autocap

WAIT_AT = "step      3 "


def train_and_wait(config: Any, data: list[str], out: str, *, say: Callable[[str], None], **options: Any) -> Any:
    """AutoCap's recipe. Each process writes down its pid; at step 3 the first one waits until OUT/go exists."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    Path(out, f"pid-{rank}").write_text(str(os.getpid()))

    def say_and_wait(line: str) -> None:
        say(line)
        deadline = time.monotonic() + 60
        while line.startswith(WAIT_AT) and not Path(out, "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    return train_autocap(config, data, out, say=say_and_wait, **options)
