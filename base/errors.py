"""Errors that users can mend: each has a message for people and the exit code of the command that it ends.

Tools that run a command as a job may pass on success or failure alone, so builds also print and store the code.
"""

DONE = 0
FINISHED_WITH_FAILURES = 1  # above the allowed rate, or the store is full
BAD_USAGE = 2  # usage, settings, or a place that cannot be used
REFUSED = 3  # other settings than before, or another driver has taken over
INTERRUPTED = 130


class ForeseenError(Exception):
    """The user can mend it. The message names the file, field or place, and says what to do."""

    exit_code = BAD_USAGE


class Refused(ForeseenError):
    """The work must not be done on this dataset as it is."""

    exit_code = REFUSED
