"""How the options of a stage are declared.

A stage takes one frozen dataclass. Every field of it is made by `setting`, which keeps beside the default what the
option does and whether it changes what a build produces: only such fields enter the fingerprint of a dataset.
"""

from dataclasses import field
from typing import Any


def setting(default: Any, doc: str, *, results: bool = False) -> Any:
    """A dataclass field. `doc`: what it does, its unit, why this default. `results`: does it change the dataset?"""
    metadata = {"doc": doc, "results": results}
    if isinstance(default, (list, dict, set)):
        raise TypeError("a default must be immutable: use a tuple")
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def check(condition: bool, message: str) -> None:
    """Refuse a setting. `message` names the field, what was found and what to write instead."""
    if not condition:
        raise ValueError(message)
