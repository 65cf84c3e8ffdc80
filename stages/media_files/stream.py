"""Decodes the whole audio of a file piece after piece: hours of it take the memory of one piece."""

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import IO

import ffmpeg
import numpy as np

from autorecap.base.wav import FULL_SCALE
from autorecap.stages.media_files.ffmpeg import (
    ONE_FILE,
    TRUNCATED,
    MediaError,
    arguments_of,
    check_still_there,
    last_words,
)

_READ_BYTES = 1 << 16  # what a pipe holds
_LOG_BYTES = 1 << 14  # the end of ffmpeg's log, which says what went wrong
_SAMPLE_BYTES = 4  # float32
_TOLERANCE_MS = 1_000  # by which a header may promise too much


def stream(
    path: str, sample_rate_hz: int, piece_samples: int, duration_ms: int | None, stall_s: float
) -> Iterator[bytes]:
    """Yield the first audio stream as mono 16-bit PCM in pieces of `piece_samples`; the last one may be shorter.

    `duration_ms`: the length in the header. Sample 0 lies at 0 of the file's own clock. The audio of a file that is cut
    short or damaged, or not finite, comes as far as it goes, and then a MediaError is raised; also where there is no
    sample at all and where nothing comes for `stall_s`. Raises OSError where the file is gone.
    """
    samples = ffmpeg.input(f"file:{path}", **ONE_FILE)["a:0"].filter("aresample", sample_rate_hz, first_pts=0)
    # As floats: ffmpeg would make integers of NaN, and the model would be asked about a sound that is not there.
    command = samples.output("-", format="f32le", acodec="pcm_f32le", ac=1, threads=1)
    arguments = arguments_of(command.global_args("-loglevel", "warning"))
    num_samples = 0
    with tempfile.TemporaryFile(prefix="autorecap-") as log:  # a pipe would fill up while nobody reads it
        with subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=0
        ) as run:
            assert run.stdout is not None
            try:
                for piece in _pieces(run.stdout, _SAMPLE_BYTES * piece_samples, stall_s):
                    x_S = np.frombuffer(piece, "<f4")
                    if not np.isfinite(x_S).all():
                        at_s = (num_samples + int(np.argmin(np.isfinite(x_S)))) / sample_rate_hz
                        raise MediaError(f"NaN or infinite samples after {at_s:.2f} s")
                    num_samples += len(x_S)
                    yield np.rint(x_S * FULL_SCALE).clip(-FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes()
                code = run.wait(stall_s)
            finally:  # also when the reader stops early
                run.kill()
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
        text = log.read().decode("utf-8", "replace")
    if not num_samples:
        check_still_there(path)
        # Where all went well and there was nothing, ffmpeg's last words are advice on options.
        raise MediaError(last_words(text, path) if code and text.strip() else "nothing could be decoded")
    end_ms = num_samples * 1000 // sample_rate_hz
    ends_early = duration_ms is None or end_ms < duration_ms - _TOLERANCE_MS
    if code or (ends_early and TRUNCATED.search(text)):
        raise MediaError(f"no audio after {end_ms / 1000:.2f} s: the file is damaged or cut short")


def _pieces(pipe: IO[bytes], num_bytes: int, stall_s: float) -> Iterator[bytes]:
    piece = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            started = time.monotonic()
            if not selector.select(stall_s):
                raise MediaError(f"ffmpeg gave nothing for {time.monotonic() - started:.0f} s", timeout=True)
            chunk = os.read(pipe.fileno(), min(_READ_BYTES, num_bytes - len(piece)))
            piece += chunk
            if len(piece) == num_bytes or (piece and not chunk):
                yield bytes(piece[: len(piece) // _SAMPLE_BYTES * _SAMPLE_BYTES])
                piece.clear()
            if not chunk:
                return
