"""Signals that ask a command to stop: Ctrl-C, and SIGTERM, which schedulers send."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STOP = (signal.SIGTERM, signal.SIGINT)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does, so that temporary files go and the exit code says it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def stop_requests(ask: Callable[[], object], say: Callable[[str], object], then: str) -> Iterator[None]:
    """Call `ask` at the first SIGTERM or Ctrl-C, and say what happens `then`; a second one ends the process at once.

    Outside the main thread nothing changes, since only the caller can set handlers there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOP}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        ask()
        restore()
        say(f"{signal.Signals(number).name}: {then}; once more to stop at once")

    for number in _STOP:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
