"""Reads the bytes of clips: from a disk as they are wanted, from S3 by few large reads and a cache on this machine.

Clips that lie side by side in a shard are read together ("a run"), for a shuffle that opens a window of shards wants
all of them within a while. Which clips make a run follows from the index alone. What was read lies in a folder that
the processes of a machine share and that never holds more than it may.
"""

import fcntl
import hashlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autorecap.base.errors import ForeseenError
from autorecap.base.files import is_remote, write_whole
from autorecap.base.settings import FILE, Section, setting
from autorecap.dataset.store import Store, patiently

GAP_BYTES = 64_000
"""A read goes on over what was not asked for, where that is no more than this: a new request costs as much."""
AHEAD_THREADS = 4
"""Reads ahead in flight, per process: enough to hide the round trips of an object store."""
_LOCKS = 256
"""Lock files, among which entries are spread: two that share one wait for each other, and there are few of them."""


@dataclass(frozen=True, kw_only=True)
class ReadConfig(Section, name="data.read"):
    """How shards in S3 are read. Local ones need none of this."""

    read_mb: float = setting(8.0, "Neighbouring clips are read together up to this many MB; 0: each by itself.", ge=0)
    cache_gb: float = setting(
        50.0, "Room on this machine's disk for what was read; best for two windows of shards.", gt=0
    )
    cache: str = setting(
        "", "Folder for it, shared by the processes of a machine; '': one in the temporary folder.", path=FILE
    )


class CacheError(ForeseenError):
    """The cache's folder cannot be used."""


class ShardReader:
    """Reads the shards of one store. Used from any number of threads."""

    def __init__(self, store: Store, config: ReadConfig) -> None:
        self.store, self.config = store, config
        remote = is_remote(store.url) and config.read_mb > 0
        self.cache = Cache(config.cache, round(1e9 * config.cache_gb)) if remote else None

    def read(self, shard: str, start: int, end: int, run: tuple[int, int]) -> bytes:
        """Read bytes [start, end) of a shard, a part of a run. Raises StoreError, FileNotFoundError, EOFError."""
        if self.cache is None:
            data = patiently(lambda: self.store.read_range(shard, start, end))
        else:
            data = self.cache.read(*self._entry(shard, run), start - run[0], end - run[0])
        if len(data) != end - start:
            raise EOFError(f"{shard} ends before byte {end}: it is damaged")
        return data

    def fetch(self, shard: str, run: tuple[int, int]) -> None:
        """Make sure that a run lies in the cache."""
        if self.cache is not None:
            self.cache.fetch(*self._entry(shard, run))

    def _entry(self, shard: str, run: tuple[int, int]) -> tuple[str, Callable[[], bytes]]:
        name = f"{self.store.url}/{shard}:{run[0]}-{run[1]}"
        return name, lambda: patiently(lambda: self.store.read_range(shard, *run))


def runs(starts: NDArray[Any], ends: NDArray[Any], max_bytes: int) -> NDArray[np.int64]:
    """Return the bytes that each clip of a shard, by rising offset, is read with. int64, shape (clips, 2)"""
    ranges = np.stack([starts, ends], axis=1).astype(np.int64)
    first = 0
    for i in range(1, len(ranges) + 1):
        at_end = i == len(ranges)
        if at_end or ranges[i, 0] - ranges[i - 1, 1] > GAP_BYTES or ranges[i, 1] - ranges[first, 0] > max_bytes:
            ranges[first:i] = ranges[first, 0], ranges[i - 1, 1]
            first = i
    return ranges


class Cache:
    """Named bytes in a folder, at most so many; what was not wanted for longest goes first."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        place = Path(folder).expanduser() if folder else Path(tempfile.gettempdir(), f"autorecap-cache-{os.getuid()}")
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place.stat().st_uid != os.getuid():
                raise CacheError(f"{place} belongs to somebody else: name another folder as data.read.cache")
        except OSError as error:
            raise CacheError(
                f"{place} cannot hold what is read ({error.strerror}): name another data.read.cache"
            ) from error
        self.folder, self.max_bytes = place, max_bytes

    def read(self, name: str, make: Callable[[], bytes], start: int, end: int) -> bytes:
        """Read bytes [start, end) of an entry. `make` returns the whole of one that is not there."""
        path = self._path(name)
        with suppress(FileNotFoundError):
            return _slice(path, start, end)
        return self._make(path, make)[start:end]

    def fetch(self, name: str, make: Callable[[], bytes]) -> None:
        """Make sure that an entry is there."""
        path = self._path(name)
        if not path.exists():
            self._make(path, make)

    def _make(self, path: Path, make: Callable[[], bytes]) -> bytes:
        with self._lock(path):  # another thread or process may be reading the same
            with suppress(FileNotFoundError):
                return path.read_bytes()
            data = make()
            write_whole(path, data)
        self._make_room()
        return data

    def _make_room(self) -> None:
        entries = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):  # another process has removed it
                if entry.name.endswith(".run"):
                    about = entry.stat()
                    entries.append((about.st_mtime_ns, about.st_size, entry.path))
        too_much = sum(size for _, size, _ in entries) - self.max_bytes
        for _, size, path in sorted(entries):
            if too_much <= 0:
                return
            Path(path).unlink(missing_ok=True)
            too_much -= size

    def _path(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.run"

    @contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        with Path(self.folder, f"lock-{int(path.stem, 16) % _LOCKS}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # let go of when the file is closed
            yield


class Ahead:
    """Threads that do what will be wanted soon. They end with the process; what fails is done again when wanted."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._started = False

    def add(self, work: Callable[[], None]) -> None:
        if not self._started:
            self._started = True
            for _ in range(AHEAD_THREADS):
                threading.Thread(target=self._run, daemon=True).start()
        self._work.put(work)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            with suppress(Exception):
                work()


def _slice(path: Path, start: int, end: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.utime(descriptor)  # wanted now
        return os.pread(descriptor, end - start, start)
    finally:
        os.close(descriptor)
