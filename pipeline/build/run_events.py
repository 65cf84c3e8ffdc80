"""Records the events of a build beside its dataset, for status and reports, and the lease that says who is at work."""

import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from autorecap.base.text import redacted
from autorecap.dataset.store import Store, StoreError
from autorecap.stages.media_files.ffmpeg import ffmpeg_exe

_FLUSH_S = 10
_LINES_PER_FILE = 5_000  # a file is written again with every flush
_LIBRARIES = (
    *("torch", "transformers", "pyarrow", "webdataset", "soundfile", "numpy", "tokenizers"),
    *("yt-dlp", "youtube-transcript-api"),
)


class RunEvents:
    """The events of one run as JSON lines under `runs/`. They tell people something; nothing depends on them."""

    def __init__(self, store: Store, epoch: int) -> None:
        self.store = store
        self.run = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{epoch:04d}"
        self.lines: list[str] = []
        self.part = 0
        self.flushed = 0.0
        lease = {"epoch": epoch, "host": socket.gethostname(), "pid": os.getpid(), "run": self.run}
        store.put("lease.json", json.dumps(lease).encode())

    def add(self, event: str, **fields: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, default=str)
        self.lines.append(redacted(line))
        if time.monotonic() - self.flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        try:
            self.store.put(f"runs/{self.run}-{self.part:04d}.jsonl", ("\n".join(self.lines) + "\n").encode())
        except (OSError, StoreError):
            return  # the store is in trouble, and whoever commits will say so
        self.flushed = time.monotonic()
        if len(self.lines) >= _LINES_PER_FILE:
            self.lines, self.part = [], self.part + 1


def library_versions(more: Collection[str] = ()) -> dict[str, str]:
    """Return the versions that a dataset is built with: recorded, not part of its fingerprint.

    `more`: packages of the flow. Those that are not installed are left out.
    """
    first_line = subprocess.run([ffmpeg_exe(), "-version"], capture_output=True, text=True).stdout.partition("\n")[0]
    versions = {"python": platform.python_version(), "ffmpeg": first_line}
    for name in (*more, *_LIBRARIES):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
