"""Reads the index of a media file, which says what bytes hold which seconds: `sidx` of an mp4, `Cues` of a webm.

Both kinds begin with a head that says how to decode; then come fragments (mp4: `moof` and `mdat`) or clusters (webm),
each of some seconds, each of use without those before it. Nothing that is read here is trusted: an index that
contradicts itself does not count, and the file is then taken as a whole.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MP4, WEBM = "mp4", "webm"

MIN_FILLER_BYTES = 16
"""The least free space that can be marked as such."""
_MAX_FRAGMENTS = 200_000  # a week in fragments of three seconds
_MAX_HEAD_BYTES = 8 * 2**20
_MAX_REST_BYTES = 1 << 16  # what may follow the last fragment of an mp4 that the index speaks of
_UNKNOWN = -1  # a length that a webm leaves open


@dataclass(frozen=True, slots=True)
class Fragment:
    """Some seconds of a file, and the bytes that hold them."""

    start_ms: float
    end_ms: float
    first: int  # offset in the file
    end: int


@dataclass(frozen=True, slots=True)
class Index:
    """The fragments of a file, in order."""

    kind: str  # MP4 or WEBM
    described: tuple[tuple[int, int], ...]  # bytes [first, end) of all else that a reader looks at: head, and far cues
    fragments: tuple[Fragment, ...]

    def covering(self, start_ms: float, end_ms: float) -> list[Fragment]:
        """Return the fragments that hold some of this span."""
        return [each for each in self.fragments if each.start_ms < end_ms and each.end_ms > start_ms]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes without which the index cannot be read."""

    first: int
    end: int


class _NoIndex(Exception):
    """The file has no index that could be used."""


class _NotYet(Exception):
    """More bytes are needed."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.needed = Wanted(first, end)


def read_index(pieces: dict[int, bytes], size: int) -> Index | Wanted | None:
    """Read the index of a file of `size` bytes. `pieces`: parts of the file by their offset; `pieces[0]` begins it.

    Return the index, the bytes that are still needed, or None where no index can be used.
    """
    head = pieces[0]
    try:
        if head[4:8] == b"ftyp":
            return _mp4(head, size)
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _webm(pieces, size)
    except _NotYet as error:
        needed = error.needed
        sensible = needed.first < needed.end <= size and needed.end - needed.first <= _MAX_HEAD_BYTES
        return needed if sensible else None
    except (_NoIndex, struct.error, IndexError, ZeroDivisionError):
        pass
    return None


def filler(kind: str, size: int) -> bytes:
    """Return how free space of `size` bytes begins: a file with bytes missing stays valid where it is marked so."""
    assert size >= MIN_FILLER_BYTES
    if kind == WEBM:
        return b"\xec\x01" + (size - 9).to_bytes(7, "big")  # Void, and a length of eight bytes
    if size < 2**32:
        return struct.pack(">I4s", size, b"free")
    return struct.pack(">I4sQ", 1, b"free", size)


# --- mp4: ISO/IEC 14496-12


def _mp4(head: bytes, size: int) -> Index:
    at, has_moov = 0, False
    while at < size:
        if at + 16 > len(head):
            raise _NotYet(len(head), min(size, at + 4096))
        length, kind = struct.unpack_from(">I4s", head, at)
        length = struct.unpack_from(">Q", head, at + 8)[0] if length == 1 else length
        if length < 8 or kind in (b"moof", b"mdat"):
            break
        if kind == b"sidx":
            if not has_moov:
                break
            if at + length > len(head):
                raise _NotYet(len(head), at + length)
            end = at + length
            return _checked(Index(MP4, ((0, end),), tuple(_sidx(head[at:end], end))), size)
        has_moov = has_moov or kind == b"moov"
        at += length
    raise _NoIndex


def _sidx(box: bytes, end: int) -> list[Fragment]:
    """Read the fragments of a segment index, 8.16.3. `end`: the offset behind the box, from which its offsets count."""
    is_long = box[8] != 0
    timescale = struct.unpack_from(">I", box, 16)[0]
    time, skipped = struct.unpack_from(">QQ" if is_long else ">II", box, 20)
    at = 36 if is_long else 28
    (count,) = struct.unpack_from(">H", box, at + 2)
    fragments, first = [], end + skipped
    for number in range(count):
        reference, duration = struct.unpack_from(">II", box, at + 4 + 12 * number)
        if reference >> 31:  # of another index
            raise _NoIndex
        last = first + reference
        fragments.append(Fragment(1000 * time / timescale, 1000 * (time + duration) / timescale, first, last))
        time, first = time + duration, last
    return fragments


def _checked(index: Index, size: int) -> Index:
    """Return the index, if it describes the whole file."""
    fragments = index.fragments
    if not fragments or len(fragments) > _MAX_FRAGMENTS or fragments[0].first != index.described[0][1]:
        raise _NoIndex
    if fragments[-1].end > size or size - fragments[-1].end > _MAX_REST_BYTES:
        raise _NoIndex  # an index per fragment, of which this is the first
    for before, after in pairwise(fragments):
        if after.start_ms < before.start_ms or after.first != before.end:
            raise _NoIndex
    if any(each.end - each.first < MIN_FILLER_BYTES for each in fragments):
        raise _NoIndex
    return index


# --- webm: RFC 8794 (EBML), RFC 9559 (Matroska)

_SEGMENT, _SEEK_HEAD, _INFO, _CUES, _CLUSTER = 0x18538067, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1F43B675
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_CUE_POINT, _CUE_TIME, _CUE_TRACK_POSITIONS, _CUE_CLUSTER_POSITION = 0xBB, 0xB3, 0xB7, 0xF1
_DEFAULT_SCALE = 1_000_000  # nanoseconds


@dataclass(slots=True)
class _Webm:
    """The head of a webm."""

    segment: int = 0  # offset from which positions count
    scale: int = _DEFAULT_SCALE
    duration: float = 0.0
    cues_at: int | None = None
    cues: bytes | None = None
    first_cluster: int | None = None


def _webm(pieces: dict[int, bytes], size: int) -> Index:
    head = pieces[0]
    webm = _webm_head(head, size)
    if webm.first_cluster is None:
        raise _NoIndex
    described, end = [(0, webm.first_cluster)], size
    if webm.cues is None:
        if webm.cues_at is None or webm.cues_at <= webm.first_cluster:
            raise _NoIndex
        webm.cues, cues_end = _far_cues(pieces, webm.cues_at, size)
        described.append((webm.cues_at, cues_end))
        end = webm.cues_at
    unit_ms = webm.scale / 1e6
    times = dict(sorted(((at, time) for time, at in _cue_points(webm.cues)), reverse=True))  # the earliest of each
    starts = [(times[at] * unit_ms, webm.segment + at) for at in sorted(times)]
    end_ms = max(webm.duration * unit_ms, starts[-1][0]) if starts else 0.0
    limits = [*starts[1:], (end_ms, end)]
    fragments = tuple(
        Fragment(start_ms, until_ms, first, last)
        for (start_ms, first), (until_ms, last) in zip(starts, limits, strict=True)
    )
    return _checked(Index(WEBM, tuple(described), fragments), size)


def _webm_head(head: bytes, size: int) -> _Webm:
    """Read a webm up to its first cluster. Raises _NotYet."""
    webm = _Webm()
    at, inside = 0, False
    while at < size:
        if at + 12 > len(head):
            raise _NotYet(len(head), min(size, at + 4096))
        kind, body = _id(head, at)
        length, body = _length(head, body)
        if not inside:
            if kind == _SEGMENT:
                inside, webm.segment, at = True, body, body
                continue
        elif kind == _CLUSTER:
            webm.first_cluster = at
            return webm
        if length == _UNKNOWN:
            raise _NoIndex
        if kind in (_SEEK_HEAD, _INFO, _CUES):
            if body + length > len(head):
                raise _NotYet(len(head), body + length)
            _note(webm, kind, head[body : body + length])
        at = body + length
    raise _NoIndex


def _note(webm: _Webm, kind: int, data: bytes) -> None:
    if kind == _CUES:
        webm.cues = data
    elif kind == _INFO:
        for each, value in _elements(data):
            if each == _TIMESTAMP_SCALE:
                webm.scale = int.from_bytes(value, "big") or _DEFAULT_SCALE
            elif each == _DURATION:
                webm.duration = struct.unpack(">d" if len(value) == 8 else ">f", value)[0]
    else:
        for each, seek in _elements(data):
            entry = dict(_elements(seek)) if each == _SEEK else {}
            if int.from_bytes(entry.get(_SEEK_ID, b""), "big") == _CUES:
                webm.cues_at = webm.segment + int.from_bytes(entry.get(_SEEK_POSITION, b""), "big")


def _far_cues(pieces: dict[int, bytes], at: int, size: int) -> tuple[bytes, int]:
    """Read the cues that lie behind the clusters; also return the offset behind them. Raises _NotYet."""
    first, piece = next(((o, p) for o, p in pieces.items() if o <= at < o + len(p)), (0, b""))
    local = at - first
    if local + 12 > len(piece):
        if at + 12 > size:
            raise _NoIndex
        raise _NotYet(at, min(size, at + (1 << 16)))
    kind, body = _id(piece, local)
    length, body = _length(piece, body)
    if kind != _CUES or length == _UNKNOWN:
        raise _NoIndex
    if body + length > len(piece):
        raise _NotYet(at, first + body + length)
    return piece[body : body + length], first + body + length


def _cue_points(cues: bytes) -> Iterator[tuple[int, int]]:
    """Yield the time of every cue and the position of its cluster."""
    for kind, point in _elements(cues):
        if kind != _CUE_POINT:
            continue
        entry = dict(_elements(point))
        where = dict(_elements(entry.get(_CUE_TRACK_POSITIONS, b"")))
        if _CUE_TIME in entry and _CUE_CLUSTER_POSITION in where:
            yield int.from_bytes(entry[_CUE_TIME], "big"), int.from_bytes(where[_CUE_CLUSTER_POSITION], "big")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield id and content of every element."""
    at = 0
    while at < len(data):
        kind, body = _id(data, at)
        length, body = _length(data, body)
        if length == _UNKNOWN or body + length > len(data):
            raise _NoIndex
        yield kind, data[body : body + length]
        at = body + length


def _id(data: bytes, at: int) -> tuple[int, int]:
    """Read the id of an element, its marker bit included; also return the offset behind it."""
    width = 9 - data[at].bit_length()
    if width > 4:
        raise _NoIndex
    return int.from_bytes(data[at : at + width], "big"), at + width


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Read the length of an element; also return the offset behind it."""
    width = 9 - data[at].bit_length()
    if width > 8:
        raise _NoIndex
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (_UNKNOWN if value == (1 << 7 * width) - 1 else value), at + width
