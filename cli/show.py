"""What commands show on a terminal, and in a log in its place. Results go to standard output, all else beside it."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from autorecap.base.text import printable

_EVERY_S = 10.0  # between the lines of progress in a log


def say(message: str) -> None:
    """A line for people."""
    print(f"autorecap: {message}", file=sys.stderr, flush=True)


def silence_stdout() -> None:
    """After a broken pipe, so that the flush at exit does not fail on it again: the reader has seen enough."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress(Protocol):
    """Is told how far it is; `now`: what is at work."""

    def __call__(self, done: float, total: float, now: str = "") -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Shows how far it is: a bar on a terminal, now and then a line in a log. `what`: all that is to be done."""
    if not sys.stderr.isatty():
        shown_at = time.monotonic()

        def line(done: float, total: float, now: str = "") -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= _EVERY_S:
                shown_at = time.monotonic()
                say(f"{done / total:.1%} of {what}" + (f", now {printable(now, 60)}" if now else ""))

        yield line
        return

    from rich import progress as bars
    from rich.console import Console

    columns: list[bars.ProgressColumn] = [bars.TextColumn("{task.description}", markup=False), bars.BarColumn()]
    columns += [bars.TaskProgressColumn(), bars.TimeRemainingColumn()]
    # Results that go to the same terminal are printed above the bar; those that go elsewhere are left alone.
    bar = bars.Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(what, total=None)

        def update(done: float, total: float, now: str = "") -> None:
            bar.update(task, completed=done, total=total, description=printable(now, 40) or what)

        yield update
