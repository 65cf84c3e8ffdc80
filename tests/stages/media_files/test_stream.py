"""The stream of a file's audio: the same samples whatever the pieces, and an end to its ffmpeg."""

import threading
from typing import Any

from autorecap.stages.media_files.stream import stream
from tests.support.sound_files import make

RATE = 32_000


def test_a_stream_is_the_samples_of_the_file_whatever_the_pieces(tmp_path):
    path = make(tmp_path / "a.wav", "-ar", "32000", seconds=5)
    whole = b"".join(stream(str(path), RATE, 10**9, 5000, 20))
    pieces = list(stream(str(path), RATE, 33_333, 5000, 20))
    assert b"".join(pieces) == whole and len(whole) == 2 * 5 * RATE
    assert {len(piece) for piece in pieces[:-1]} == {66_666}


def test_a_stream_that_nobody_reads_on_ends_its_ffmpeg(tmp_path):
    before = threading.active_count()
    pieces: Any = stream(str(make(tmp_path / "a.flac", seconds=600)), RATE, RATE, None, 20)
    next(pieces)
    pieces.close()
    assert threading.active_count() == before
