"""Tells people what a command is doing: lines and progress, on standard error. Results go to standard output."""

import sys
import time
from types import TracebackType
from typing import Any

from autorecap.base.text import printable

LOG_EVERY_S = 10.0
"""Seconds between two lines of progress in a log."""
STILL_ALIVE_S = 30.0
"""Seconds after which a line that says the same as the one before is worth another."""


def say(message: str) -> None:
    """Print a line for people."""
    print(f"autorecap: {message}", file=sys.stderr, flush=True)


class Progress:
    """Shows how far a command is: on a terminal in one place, in a log by a line now and then.

    A command calls it with numbers where the end is known, and its `line` with words where it is not.
    """

    def __init__(self, what: str = "", *, log_at_once: bool = False) -> None:
        """`what`: all that is to be done, such as "12 files"; "" where only lines are shown.

        `log_at_once`: the first line of a log comes at once, not after `LOG_EVERY_S`.
        """
        self.what = what
        self._logged_at = float("-inf") if log_at_once else time.monotonic()
        self._logged = ""
        self._bar: Any = _bar(measured=bool(what)) if sys.stderr.isatty() else None
        self._task: Any = self._bar.add_task(printable(what), total=None) if self._bar else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: float, total: float, now: str = "") -> None:
        """Show that `done` of `total` is done; `now`: what is at work."""
        now = printable(now, 60)
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=printable(now, 40) or self.what)
        else:
            self._log(f"{done / total:.1%} of {self.what}" + (f", now {now}" if now else ""))

    def line(self, text: str) -> None:
        """Show a line in place of the one before."""
        if self._bar:
            self._bar.update(self._task, description=text)
        else:
            self._log(text)

    def _log(self, text: str) -> None:
        now = time.monotonic()
        if now - self._logged_at >= (STILL_ALIVE_S if text == self._logged else LOG_EVERY_S):
            self._logged, self._logged_at = text, now
            say(text)


def _bar(*, measured: bool) -> Any:
    from rich import progress
    from rich.console import Console
    from rich.table import Column

    columns: list[progress.ProgressColumn] = [
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    ]
    if measured:
        columns += [progress.BarColumn(), progress.TaskProgressColumn(), progress.TimeRemainingColumn()]
    # Results that go to the same terminal are printed above the bar; those that go elsewhere are left alone.
    return progress.Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    )
