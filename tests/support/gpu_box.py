"""Python as it is on a GPU machine that has torch, transformers and einops, and nothing else that the project needs."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.support.places import PROJECT

THERE = {"torch", "transformers", "einops"}
COMES_WITH_TRANSFORMERS = {"numpy", "safetensors", "tokenizers", "pyyaml", "huggingface-hub"}


def modules_of(room: str) -> list[str]:
    """The names of all modules of a room."""
    files = sorted(path.relative_to(PROJECT).with_suffix("") for path in (PROJECT / room).rglob("*.py"))
    return ["autorecap." + ".".join(path.parts).removesuffix(".__init__") for path in files]


def missing_modules() -> set[str]:
    """Everything that can be imported from the project's other dependencies, those of its extras included."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    others = {_plain(re.split(r"[^\w.-]", line)[0]) for line in lines} - THERE - COMES_WITH_TRANSFORMERS
    return {module for module, owners in packages_distributions().items() if others & set(map(_plain, owners))}


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own that can import nothing of `missing_modules`."""
    refuse = f"import sys; sys.modules.update(dict.fromkeys({sorted(missing_modules())}))\n"
    command = [sys.executable, "-c", refuse + code]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
