"""A store reads and publishes the files of a dataset, on a local disk or in S3; nothing else does.

Everything that gets a final name is put there at once and whole, and only if nobody has that name yet (`put_new`): on a
local disk by `os.link` of a synced temporary file, in S3 by a conditional request (If-None-Match). Files that only tell
people something (the lease, the events of a run) may be overwritten (`put`).
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autorecap.base.errors import ForeseenError
from autorecap.base.files import explanation, local_path

STAGING = ".staging"
"""Where a local store keeps files that have no final name yet. A crash may leave some; a build sweeps them."""
TRIES, WAIT_S = 4, 1.0  # of a read that failed for another reason than that there is nothing; doubled each time

Value = TypeVar("Value")


class StoreError(ForeseenError):
    """The store cannot be used as it is: the message names the place and says what to do."""


class NameTaken(StoreError):
    """`put_new` found that the name exists."""


def is_store(url: str) -> bool:
    """Return whether a dataset can lie there: `open_store` takes no other scheme."""
    scheme, separator, _ = url.partition("://")
    return not separator or scheme in ("file", "s3", "s3a")


def open_store(url: str) -> "LocalStore | S3Store":
    """Return the store at a local path, file:// or s3:// URL. Raises StoreError where there can be none."""
    scheme, separator, rest = url.partition("://")
    if not url.strip() or (separator and not rest.strip("/")):
        raise StoreError(f"{url!r} names no place for a dataset: give a directory or s3://bucket/prefix")
    if not is_store(url):
        raise StoreError(f"{url}: a dataset lives on a local disk or in s3://, not in {scheme}://")
    if not separator:
        return LocalStore(str(Path(url).expanduser().absolute()))
    return LocalStore(str(local_path(url))) if scheme == "file" else S3Store(rest.rstrip("/"))


@dataclass(frozen=True)
class LocalStore:
    root: str

    @property
    def url(self) -> str:
        return self.root

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError."""
        return self._path(name).read_bytes()

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of a file; fewer where it ends before."""
        descriptor = os.open(f"{self.root}/{name}", os.O_RDONLY)  # no Path, no buffer: it is called for every clip
        try:
            return os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)

    def exists(self, name: str) -> bool:
        return self._path(name).exists()

    def list(self, folder: str) -> list[str]:
        """Return the names of the files directly in `folder` ("" for the root), sorted; [] where there is no folder."""
        try:
            entries = sorted(entry.name for entry in os.scandir(self._path(folder)) if entry.is_file())
        except FileNotFoundError:
            return []
        return [f"{folder}/{entry}" if folder else entry for entry in entries if not entry.startswith(".")]

    def is_empty(self) -> bool:
        try:
            return all(entry.name.startswith(".") for entry in os.scandir(self.root))  # such as STAGING
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            raise StoreError(f"{self.root} is a file: name a directory for the dataset") from None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give the path of one temporary file, on the file system where `put_new` will want it."""
        staging = self._path(STAGING)
        staging.mkdir(parents=True, exist_ok=True)
        path = staging / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def put_new(self, name: str, data: bytes | Path) -> None:
        """Publish bytes, or a file from `scratch`, under a name that nobody has. Raises NameTaken."""
        final = self._path(name)
        final.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            self._publish(data, final)
        else:
            with self.scratch() as path:
                path.write_bytes(data)
                self._publish(path, final)

    def _publish(self, path: Path, final: Path) -> None:
        _sync(path)
        path.chmod(0o644)
        try:
            os.link(path, final)
        except FileExistsError:
            raise NameTaken(f"{final} exists") from None
        except PermissionError as error:
            raise StoreError(
                f"{final}: {error.strerror}. Publishing needs hard links, which this file system seems not to have; "
                "use a local disk or s3://"
            ) from error
        _sync(final.parent)

    def put(self, name: str, data: bytes) -> None:
        """Write or overwrite a file that is for people only."""
        final = self._path(name)
        final.parent.mkdir(parents=True, exist_ok=True)
        with self.scratch() as path:
            path.write_bytes(data)
            path.replace(final)

    def sweep(self, older_than_s: float = 86_400) -> None:
        """Remove what crashed writers left without a name; a writer of today may still be at work."""
        for name in self._path(STAGING).glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - name.stat().st_mtime > older_than_s:
                    name.unlink()

    def free_bytes(self) -> int | None:
        """Return the bytes that are free, or None where there is no such limit."""
        place = Path(self.root)
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class S3Store:
    """Credentials, region and endpoint come from the standard AWS environment variables and files."""

    root: str  # bucket/prefix

    @property
    def url(self) -> str:
        return f"s3://{self.root}"

    @cached_property
    def _fs(self) -> Any:
        import s3fs  # a second to import: only those who use S3 wait for it

        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def __getstate__(self) -> dict[str, str]:
        return {"root": self.root}  # the connection stays in its process

    def _key(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes:
        """Return the content of an object. Raises FileNotFoundError."""
        with self._explained():
            data: bytes = self._fs.cat_file(self._key(name))
            return data

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return bytes [start, end) of an object; fewer where it ends before."""
        with self._explained():
            data: bytes = self._fs.cat_file(self._key(name), start=start, end=end)
            return data

    def exists(self, name: str) -> bool:
        with self._explained():
            return bool(self._fs.exists(self._key(name)))

    def list(self, folder: str) -> list[str]:
        """Return the names of the objects directly in `folder` ("" for the root), sorted; [] where there are none."""
        try:
            with self._explained():
                entries = self._fs.ls(self._key(folder), detail=True)
        except FileNotFoundError:
            return []
        start = len(self.root) + 1
        return sorted(entry["name"][start:] for entry in entries if entry["type"] == "file" and entry["name"][start:])

    def is_empty(self) -> bool:
        with self._explained():
            try:
                names = self._fs.ls(self.root, detail=False)
            except FileNotFoundError as error:
                if not self._fs.exists(self.root.partition("/")[0]):
                    raise StoreError(f"{self.url}: {explanation(self.url, error)}") from None
                return True
            return all(name.rstrip("/") == self.root for name in names)  # a console marks a folder by an object

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what botocore and its relatives raise into a StoreError that names the place and the next step."""
        try:
            yield
        except (FileNotFoundError, StoreError):
            raise
        except Exception as error:
            raise StoreError(f"{self.url}: {explanation(self.url, error)}") from error

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give the path of one temporary file on this machine's disk."""
        with tempfile.TemporaryDirectory(prefix="autorecap-") as folder:
            yield Path(folder, "file")

    def put_new(self, name: str, data: bytes | Path) -> None:
        """Publish bytes or a file under a name that nobody has, by a conditional request. Raises NameTaken."""
        with self._explained():
            try:
                if isinstance(data, Path):
                    self._fs.put_file(str(data), self._key(name), mode="create")
                else:
                    self._fs.pipe_file(self._key(name), data, mode="create")
            except FileExistsError:
                raise NameTaken(f"{self.url}/{name} exists") from None

    def put(self, name: str, data: bytes) -> None:
        """Write or overwrite an object that is for people only."""
        with self._explained():
            self._fs.pipe_file(self._key(name), data)

    def sweep(self, older_than_s: float = 86_400) -> None:
        """Do nothing: an S3 upload that did not finish has no name."""

    def free_bytes(self) -> int | None:
        return None


Store = LocalStore | S3Store


def patiently(read: Callable[[], Value], tries: int = TRIES) -> Value:
    """Return what `read` returns; where it raises StoreError, try again after a while, up to so many times."""
    for number in range(tries - 1):
        with suppress(StoreError):
            return read()
        time.sleep(WAIT_S * 2**number)
    return read()
