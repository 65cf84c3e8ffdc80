"""Silences standard output when the program that reads it, such as `head`, has seen enough."""

import os
import sys
from contextlib import suppress


def silence_stdout() -> None:
    """Send further output to nowhere after a broken pipe, so that the flush at exit does not fail as well."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
