"""Folders as people work in: with packages of their own that bear the names of the project's rooms."""

from pathlib import Path

from tests.support.places import PROJECT

NAMES = sorted(path.parent.name for path in PROJECT.glob("*/__init__.py") if path.parent.name != "autorecap")
"""Every room, `tests` and `benchmarks`; Python puts the folder in which it is started before all that is installed."""


def make_hostile(folder: Path) -> Path:
    """Fill a folder with packages that end whoever imports them."""
    for name in [*NAMES, "configs"]:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('imported the {name} of the working folder')\n")
    return folder
