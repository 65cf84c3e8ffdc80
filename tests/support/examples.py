"""How hypothesis draws its examples: the same ones each time, or other ones, and more, in a long run.

`HYPOTHESIS_PROFILE=random` (part of `make test-world`) draws anew; what it finds is printed as a line that repeats it.
"""

import os

from hypothesis import settings

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "repeatable")
_TIMES = {"repeatable": 1, "random": 10}

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=100 * _TIMES["random"], print_blob=True)


def examples(count: int) -> settings:
    """Return the settings of a test that tries so many examples, or a multiple of them in a long run."""
    return settings(max_examples=count * _TIMES[PROFILE])
