"""Files that lie here or elsewhere, opened, or as local paths."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

import fsspec

_FILE = "file://"


def portable(path: str) -> str:
    """A local path as text that fits anywhere. Names that are not UTF-8 become a file:// URL with %-escapes."""
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return _FILE + quote(os.fsencode(path))


def is_remote(path: str) -> bool:
    return "://" in path and not path.startswith(_FILE)


@contextmanager
def open_bytes(path: str) -> Iterator[BinaryIO]:
    """The file at a path or URL, to be read. Raises OSError, whatever a service calls its failures."""
    if not is_remote(path):
        if _local(path).is_fifo():  # it would be waited for
            raise OSError(errno.EINVAL, "it is a pipe: save what it gives to a file", path)
        with _local(path).open("rb") as file:
            yield file
        return
    try:
        with fsspec.open(path, "rb") as file:
            yield file
    except OSError:
        raise
    except Exception as error:  # every fsspec back-end has errors of its own
        raise OSError(f"{type(error).__name__}: {error}") from error


@contextmanager
def local_file(path: str) -> Iterator[Path]:
    """A local path with the content of `path`: itself, or a temporary copy of a file behind a URL. Raises OSError.

    A file that lies here is opened and closed first: ffmpeg does not tell one that has gone, or may not be read, from
    a broken one.
    """
    if not is_remote(path):
        with open_bytes(path):
            pass
        if not path.startswith(_FILE):
            yield Path(path)
            return
        with tempfile.TemporaryDirectory(prefix="autorecap-") as folder:  # ffmpeg-python takes no name but UTF-8
            link = Path(folder, "file")
            link.symlink_to(_local(path))
            yield link
        return
    with tempfile.NamedTemporaryFile(prefix="autorecap-", suffix=Path(path).suffix) as copy:
        with open_bytes(path) as source:
            shutil.copyfileobj(source, copy)
        copy.flush()
        yield Path(copy.name)


def _local(path: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(path.removeprefix(_FILE))) if path.startswith(_FILE) else path)
