"""A folder of a local disk or of an object store, whose files are read and written alike.

fsspec is imported where a folder is made: whoever imports this module for its types need not wait for it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autorecap.base.files import is_remote


class Folder:
    """A folder of a local disk or an object store, by its path or URL."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        options = {"use_listings_cache": False} if is_remote(url) else {"auto_mkdir": True}
        self.fs, self.root = url_to_fs(url, **options)
        self.root = self.root.rstrip("/")
        self._is_local = "file" in self.fs.protocol

    def path(self, name: str) -> str:
        """Return the path of a file in the folder, as `fs` takes it."""
        return f"{self.root}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Open a file to write. On a local disk it survives a power cut, or OSError is raised."""
        with self.fs.open(self.path(name), "wb") as file:
            yield file
            file.flush()
            if self._is_local:
                os.fsync(file.fileno())

    def put(self, name: str, content: bytes) -> None:
        """Write a small file, as a whole or not at all."""
        if self._is_local:
            with self.writing(f".{name}") as file:
                file.write(content)
            Path(self.path(f".{name}")).replace(self.path(name))
        else:
            self.fs.pipe_file(self.path(name), content)

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError, or what the object store's library raises."""
        content: bytes = self.fs.cat_file(self.path(name))
        return content
