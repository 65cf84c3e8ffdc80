"""Ends of commands: a foreseen error becomes one message and an exit code, any other keeps its traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from autorecap.base.errors import BAD_USAGE, INTERRUPTED, ForeseenError
from autorecap.base.settings import SettingError

_INTERRUPTED = "interrupted: everything committed so far stays, and the same command goes on from there"


@contextmanager
def answered(interrupted: str = _INTERRUPTED) -> Iterator[None]:
    """Print a foreseen error and end with its exit code. `interrupted`: the message after Ctrl-C."""
    try:
        yield
    except ForeseenError as error:
        _end(error, error.exit_code)
    except OSError as error:  # a place is missing, forbidden or full
        place = f"{error.filename}: " if error.filename else ""
        _end(f"{place}{error.strerror or error}", BAD_USAGE)
    except KeyboardInterrupt:
        _end(interrupted, INTERRUPTED)


@contextmanager
def settings_from_options() -> Iterator[None]:
    """Turn the error of a setting into one of the option that gave it: --num-beams, not captions.num_beams."""
    try:
        yield
    except SettingError as error:
        option = error.name.rpartition(".")[2].replace("_", "-")
        raise ForeseenError(f"--{option}: {error.problem}") from error


def _end(error: object, code: int) -> None:
    print(f"autorecap: {error}", file=sys.stderr)
    print(f"autorecap: exit code {code}", file=sys.stderr)
    raise typer.Exit(code)
