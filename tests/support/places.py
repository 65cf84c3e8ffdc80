"""Where tests find what they read."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
"""The checkout."""
VECTORS = PROJECT / "tests" / "vectors"
"""Numbers, worked cases and old data that tests hold the code against; they are always there."""
SHARED = PROJECT.parent / "shared"
"""Real recordings and published lists that may lie beside a checkout. Tests that need them skip where they do not."""
