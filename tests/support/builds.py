"""Builds while they run, and what they leave."""

import subprocess
import time
from pathlib import Path

from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store


def shard_names(out: Path | str) -> list[str]:
    """Return the names of the dataset's shards, which are hashes of their bytes."""
    return [name for name in read_state(open_store(str(out))).names("shards") if name.endswith(".tar")]


def wait_for_commits(out: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until the build has committed so often; it must not have ended."""
    while len(list(out.glob("commits/*.json"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
