"""Compares the settings that a dataset was made with: by one hash, and in words that say what differs."""

import hashlib
import json
from typing import Any


def fingerprint(settings: dict[str, Any]) -> str:
    """Return the SHA-256 of the settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def explain_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return a line for each setting that differs, for people."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return "\n".join(f"  {name}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}" for name in names)
