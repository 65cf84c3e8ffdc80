"""Opens, copies and writes files on this machine or behind URLs, and explains why one cannot be used.

fsspec is imported for the first URL: a machine that trains on tensors needs none.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

_FILE = "file://"
_CHECK_AWS = (
    "Check credentials (AWS_PROFILE, AWS_ACCESS_KEY_ID or the role of the machine), AWS_REGION and AWS_ENDPOINT_URL, "
    "where the workers run too"
)


def portable(path: str) -> str:
    """Return a local path as text that fits anywhere: a name that is not UTF-8 as a file:// URL with %-escapes."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return _FILE + quote(os.fsencode(path))


def is_remote(path: str) -> bool:
    """Return whether a path or URL leads away from this machine's file systems."""
    return "://" in path and not path.startswith(_FILE)


def explanation(place: str, error: Exception) -> str:
    """Say why a path or URL cannot be used and what to do; the caller says which one.

    Behind URLs it may be any error: each library of an object store has its own.
    """
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder" + (", or these credentials may not list it" * is_remote(place))
    if not is_remote(place):
        return (isinstance(error, OSError) and error.strerror) or str(error)
    from fsspec.registry import available_protocols, registry

    scheme = place.partition("://")[0]
    if isinstance(error, ImportError):
        return f"{scheme}:// needs a package: {error}"
    if scheme not in {*available_protocols(), *registry}:
        return f"nothing here reads {scheme}://: give a local path or s3://bucket/prefix"
    found = f"{type(error).__name__}: {error}".rstrip(".")
    return found + (f". {_CHECK_AWS}" if scheme in ("s3", "s3a") else "")


@contextmanager
def open_bytes(path: str) -> Iterator[BinaryIO]:
    """Open the file at a path or URL for reading. Raises OSError, whatever a service calls its failures."""
    if not is_remote(path):
        if local_path(path).is_fifo():  # opening it would wait for a writer
            raise OSError(errno.EINVAL, "it is a pipe: save what it gives to a file", path)
        with local_path(path).open("rb") as file:
            yield file
        return
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            yield file
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:
        raise OSError(explanation(path, error)) from error


@contextmanager
def local_file(path: str) -> Iterator[Path]:
    """Give a local path with the content of `path`: itself, or a temporary copy of a file behind a URL.

    Raises OSError. A local file is opened and closed first, since ffmpeg does not tell a file that is missing, or may
    not be read, from a broken one.
    """
    if not is_remote(path):
        with open_bytes(path):
            pass
        if not path.startswith(_FILE):
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="autorecap-") as folder:  # ffmpeg-python takes no name but UTF-8
            link = Path(folder, "file")
            link.symlink_to(local_path(path))
            yield link
        return
    with tempfile.NamedTemporaryFile(prefix="autorecap-", suffix=Path(path).suffix) as copy:
        with open_bytes(path) as source:
            shutil.copyfileobj(source, copy)
        copy.flush()
        yield Path(copy.name)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file. Under its name there is the whole of it, or what was there before. Raises OSError that names it."""
    draft = path.with_suffix(".part")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def local_path(path: str) -> Path:
    """Return the path that a local path or a file:// URL names."""
    return Path(os.fsdecode(unquote_to_bytes(path.removeprefix(_FILE))) if path.startswith(_FILE) else path)
