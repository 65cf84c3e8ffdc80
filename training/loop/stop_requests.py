"""What a run is asked from outside while it goes on: by a signal, or by the launcher of its process."""

from dataclasses import dataclass


@dataclass
class Asked:
    """Written by others, read by the loop after every step. What one rank is asked, all do after the same step."""

    stop: bool = False  # end with a checkpoint
    save: bool = False  # write a checkpoint now and go on; the loop takes it back


ASKED = Asked()
"""Of this process, as signals are."""
