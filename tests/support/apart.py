"""Calls in a process of their own: one that has been a Ray driver may die of what Ray's client leaves behind in it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

LIMIT_S = 900


def apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call`, of the top level of a module, returns or raises there."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
        try:
            return own.submit(call, *arguments).result(timeout=LIMIT_S)
        except TimeoutError:
            for child in multiprocessing.active_children():  # leaving the block waits for it
                child.kill()
            raise
