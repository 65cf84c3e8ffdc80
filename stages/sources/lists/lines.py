"""Text files of any length, read as blocks of lines: where each begins and ends in a buffer, and its number.

One line is one row. A quote that never closes costs its own row, where a CSV reader would lose the rest of the file.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from autorecap.base.files import open_bytes
from autorecap.base.text import printable, redacted
from autorecap.stages.sources.errors import SourceError

BLOCK_BYTES = 8_000_000
LONGEST_LINE = 32_000_000
"""Longest part of a line that is kept: a file without line ends must not fill the memory."""
SHOWN_CHARS = 200  # of a damaged row, for people
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_BOM = b"\xef\xbb\xbf"
_LF, _CR = 10, 13


@dataclass(frozen=True)
class Block:
    """Lines of a file. Line i is data[starts[i]:ends[i]], without its end, and has the number first_line + i."""

    data: np.ndarray  # uint8
    starts: np.ndarray  # int64
    ends: np.ndarray
    first_line: int
    breaks_off: str = ""  # what ended the file before its end, after these lines

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, i: int) -> bytes:
        return self.data[self.starts[i] : self.ends[i]].tobytes()

    @cached_property
    def with_ends(self) -> pa.Array:
        """Lines as binary strings with their line ends, without copying them."""
        offsets = np.append(self.starts, len(self.data)).astype(np.int32)
        return pa.BinaryArray.from_buffers(
            pa.binary(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(self.data)]
        )


def gather(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
    """Return the slices of a buffer as an array of binary strings."""
    lengths = ends - starts
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    positions = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(data[positions])]
    )


def blocks(path: str) -> Iterator[Block]:
    """Yield the lines of a file, which may be gzipped. Raises SourceError where it cannot be opened.

    Where it breaks off in the middle (a half download, a disk), the last block says why.
    """
    number = 1
    with opened(path) as file:
        if file.peek(3)[:3] == _BOM:
            file.read(3)
        rest, mac = b"", False
        while True:
            piece, broken = _read(file, BLOCK_BYTES)
            if number == 1 and not rest:
                mac = _CR in piece and _LF not in piece  # line ends of an old Mac
            if mac:
                piece = piece.replace(b"\r", b"\n")
            at_end = not piece or bool(broken)
            text = rest + piece
            cut = len(text) if at_end else text.rfind(b"\n") + 1
            rest = text[cut:][:LONGEST_LINE]
            if cut:
                block = _block(text[:cut], number, broken)
                number += len(block)
                yield block
            elif broken:
                yield _block(b"", number, broken)
            if at_end:
                return


def _read(file: Any, size: int) -> tuple[bytes, str]:
    """Read the next `size` bytes, fewer at the end; also say what broke the file off, if something did."""
    pieces: list[bytes] = []
    while size > 0:
        try:
            piece = file.read1(size)
        except (EOFError, zlib.error, OSError) as error:
            return b"".join(pieces), f"the file breaks off: {printable(str(error)) or type(error).__name__}"
        if not piece:
            break
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces), ""


def _block(text: bytes, number: int, broken: str) -> Block:
    data = np.frombuffer(text, np.uint8)
    newlines = np.flatnonzero(data == _LF)
    starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])
    ends = np.append(newlines, len(data))
    if len(starts) and starts[-1] == len(data):
        starts, ends = starts[:-1], ends[:-1]
    has_return = (ends > starts) & (data[np.maximum(ends - 1, 0)] == _CR) if len(data) else np.zeros(0, bool)
    return Block(data, starts, ends - has_return, number, broken)


def path_shown(path: str) -> str:
    """Return a path or URL for people, without a password."""
    return printable(redacted(path))


def row_shown(line: bytes) -> str:
    """Return the beginning of a damaged row for people."""
    return printable(line[: 4 * SHOWN_CHARS].decode("utf-8", "replace"), SHOWN_CHARS)


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a local or remote file, unpacked if it is gzipped. Raises SourceError."""
    shown = path_shown(path)
    try:
        with open_bytes(path) as raw:
            if not raw.seekable():  # a terminal, a socket: it is opened twice, to tell its format and to be read
                raise SourceError(f"{shown} can be read only once: save what it gives to a file")
            file: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
            head = file.peek(4)[:4]
            if head == _ZIP:
                raise SourceError(f"{shown} is a zip archive: unpack it and name the lists in it")
            unpacked = gzip.GzipFile(fileobj=file) if head[:2] == _GZIP else file
            if unpacked.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise SourceError(f"{shown} is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
            yield unpacked
    except FileNotFoundError:
        raise SourceError(f"{shown} does not exist: name the file that lists the videos") from None
    except IsADirectoryError:
        raise SourceError(f"{shown} is a folder: name a list, or give the folder to build --videos") from None
    except (EOFError, zlib.error) as error:
        raise SourceError(f"{shown} cannot be unpacked ({error}): fetch it again") from None
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {printable(error.strerror or str(error))}") from None
