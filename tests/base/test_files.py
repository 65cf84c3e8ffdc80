"""Files here and behind URLs, opened."""

import os
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from autorecap.base.files import explanation, local_file, open_bytes, portable
from autorecap.stages.probe import Probe, ProbeConfig
from autorecap.stages.records import Video
from autorecap.stages.transcript_files import read_bytes


@pytest.fixture
def odd(tmp_path) -> str:
    """The portable path of a file whose name is not UTF-8."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 #1%41.vtt")
    Path(path).write_bytes(b"WEBVTT")
    return portable(path)


def test_a_name_that_is_not_utf8_is_opened_by_everyone(odd):
    odd.encode()
    with local_file(odd) as local, open_bytes(odd) as file:
        assert local.read_bytes() == file.read() == read_bytes(odd) == b"WEBVTT"


@pytest.mark.parametrize("path", ["gone.ogg", "file:///nowhere/gone.ogg", "memory://nowhere/gone.ogg"])
def test_a_local_file_that_is_not_there_is_an_error_before_it_is_used(path):
    for opened in (local_file, open_bytes):
        with pytest.raises(OSError), opened(path):
            pass


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("a/b.wav", FileNotFoundError(2, "No such file or directory"), "there is no such file or folder"),
        ("a/b.wav", PermissionError(13, "Permission denied"), "Permission denied"),
        ("s3://b/k", FileNotFoundError("b/k"), "no such file or folder, or these credentials may not list it"),
        (
            "s3://b/k",
            PermissionError("Access Denied."),
            "PermissionError: Access Denied. Check credentials",
        ),
        ("https://host/x", TimeoutError("too slow"), "TimeoutError: too slow"),
    ],
)
def test_a_place_that_cannot_be_used_is_explained_by_its_kind(place: str, error: Exception, words: str) -> None:
    said = explanation(place, error)
    assert words in said and ("AWS_" in said) == ("Access" in words)


@pytest.mark.parametrize(
    ("url", "words"), [("foo://x/y", "nothing here reads foo://"), ("gs://bucket/y", "gs:// needs a package: .*gcs")]
)
def test_a_scheme_that_nothing_reads_is_named(url: str, words: str) -> None:
    with pytest.raises(OSError, match=words), open_bytes(url):
        pass


class Unreachable(MemoryFileSystem):
    protocol = "unreachable"

    def _open(self, *args, **kwargs):
        raise LookupError("the endpoint does not answer")


def test_what_a_service_raises_is_an_os_error_and_the_video_is_tried_again_later():
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(OSError, match="LookupError: the endpoint"):
        read_bytes("unreachable://a/b.vtt")
    (video,) = Probe(ProbeConfig())([Video(row=0, video_id="v", media="unreachable://a/b.webm")])
    assert video.reason == "media_missing" and "does not answer" in video.detail
