"""Holds what the launcher of a process asks of the loop that runs in it: to stop, or to save."""

from dataclasses import dataclass


@dataclass
class StopRequests:
    """Flags that others set and the loop reads after every step. What reaches one process, all obey after one step."""

    stop: bool = False  # write a checkpoint and end
    save: bool = False  # write a checkpoint now and go on; the loop clears it


REQUESTS = StopRequests()
"""Those of this process: there is one, as there is one set of signal handlers."""
