"""Folders of a local disk and of an object store take and give the same bytes."""

import errno
import os
from pathlib import Path

import pytest

from autorecap.base.folder import Folder


@pytest.mark.parametrize("place", ["{}/new/", "file://{}/new/", "memory://{}/new/"])
def test_what_was_put_or_written_is_read(tmp_path: Path, place: str) -> None:
    folder = Folder(place.format(tmp_path))
    folder.put("small", b"1")
    folder.put("small", b"2")
    with folder.writing("large") as file:
        file.write(b"34")
    assert (folder.read("small"), folder.read("large")) == (b"2", b"34")
    names = sorted(path.rpartition("/")[2] for path in folder.fs.find(folder.root))
    assert names == ["large", "small"]  # and no draft


def test_a_disk_that_does_not_keep_what_is_written_is_an_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))
    folder.put("small", b"old")

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        folder.put("small", b"new")
    with pytest.raises(OSError, match="Input/output error"), folder.writing("large") as file:
        file.write(b"new")
    assert folder.read("small") == b"old"
