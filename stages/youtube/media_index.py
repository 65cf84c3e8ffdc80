"""Where in a media file a span of time lies, from its first bytes.

YouTube's audio comes as fragmented MP4 with an index in front (`sidx`, ISO/IEC 14496-12, 8.16.3), or as WebM with
`Cues` (https://www.matroska.org/technical/cues.html). Either one divides the file into pieces that can be decoded by
themselves: a head that describes the codec, and some pieces in a row, are a whole file again.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass


class NoIndex(Exception):
    """The file has no index that can be used: it has to be fetched whole."""


class NeedsMore(Exception):
    """The index lies further on: bytes [start, end) of the file are needed. end None: up to its end."""

    def __init__(self, start: int, end: int | None) -> None:
        super().__init__(f"bytes {start} to {end}")
        self.start, self.end = start, end


@dataclass(frozen=True, slots=True)
class Piece:
    """Some seconds of the file."""

    start_ms: float
    end_ms: float
    offset: int
    size: int


@dataclass(frozen=True)
class MediaIndex:
    """A file in pieces, in the order of time."""

    head: bytes  # goes in front of any pieces
    pieces: tuple[Piece, ...]

    def covering(self, start_ms: float, end_ms: float) -> range:
        """Which pieces hold the span; empty where the file ends before."""
        hit = [i for i, piece in enumerate(self.pieces) if piece.end_ms > start_ms and piece.start_ms < end_ms]
        return range(hit[0], hit[-1] + 1) if hit else range(0)

    def origin_ms(self, piece: int) -> float:
        """The time of a piece's first sample on the clock that `ffmpeg -ss` goes by: from the file's first sample."""
        return self.pieces[piece].start_ms - self.pieces[0].start_ms


def read_index(parts: dict[int, bytes], size: int) -> MediaIndex:
    """The index of a file of `size` bytes, of which `parts` are there: offset to bytes; 0 must be among them.

    Raises NeedsMore, or NoIndex.
    """
    try:
        index = _webm(parts, size) if parts[0].startswith(_EBML) else _mp4(parts[0], size)
    except (struct.error, IndexError) as error:  # a field that is cut off
        raise NoIndex(f"damaged: {error}") from error
    rising = all(a.offset + a.size <= b.offset and a.start_ms < b.start_ms for a, b in zip(*_pairs(index), strict=True))
    if not index.pieces or not rising or index.pieces[-1].offset + index.pieces[-1].size > size:
        raise NoIndex("an index that does not fit the file")
    return index


def _pairs(index: MediaIndex) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    return index.pieces[:-1], index.pieces[1:]


# --- MP4


def _mp4(data: bytes, size: int) -> MediaIndex:
    position, seen = 0, set[bytes]()
    while True:
        if position + 16 > len(data):
            raise NeedsMore(0, position + _AHEAD) if position + 16 <= size else NoIndex("no sidx")
        length, kind = struct.unpack_from(">I4s", data, position)
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
        if kind == b"sidx" and b"moov" in seen:
            break
        if length < 8 or kind in (b"moof", b"mdat"):
            raise NoIndex("no sidx in front of the sound")
        seen.add(kind)
        position += length
    if position + length > len(data):
        raise NeedsMore(0, position + length)
    return MediaIndex(data[:position], tuple(_sidx(data, position, position + length)))


_AHEAD = 1 << 16


def _sidx(data: bytes, start: int, end: int) -> Iterator[Piece]:
    version, _, timescale = struct.unpack_from(">B7sI", data, start + 8)
    wide = version > 0
    time, first = struct.unpack_from(">QQ" if wide else ">II", data, start + 20)
    (count,) = struct.unpack_from(">H", data, start + (38 if wide else 30))
    at, offset = start + (40 if wide else 32), end + first
    if not timescale:
        raise NoIndex("sidx with a timescale of 0")
    for _ in range(count):
        reference, duration, _ = struct.unpack_from(">III", data, at)
        if reference >> 31:
            raise NoIndex("sidx of other sidx")
        size = reference & 0x7FFFFFFF
        yield Piece(time / timescale * 1000, (time + duration) / timescale * 1000, offset, size)
        at, offset, time = at + 12, offset + size, time + duration


# --- WebM

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT, _SEEK_HEAD, _INFO, _TRACKS, _CUES, _CLUSTER = (
    0x18538067,
    0x114D9B74,
    0x1549A966,
    0x1654AE6B,
    0x1C53BB6B,
    0x1F43B675,
)
_SEEK, _SEEK_ID, _SEEK_POSITION = 0x4DBB, 0x53AB, 0x53AC
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489
_CUE_POINT, _CUE_TIME, _CUE_POSITIONS, _CUE_CLUSTER = 0xBB, 0xB3, 0xB7, 0xF1
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_DEFAULT_SCALE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    start: int  # of its id
    data: int  # of its content
    end: int


def _webm(parts: dict[int, bytes], size: int) -> MediaIndex:
    data = parts[0]
    header = next(_elements(data, 0, len(data)))
    segment = next(_elements(data, header.end, len(data)))
    if segment.kind != _SEGMENT:
        raise NoIndex("no Segment")
    found: dict[int, _Element] = {}
    for element in _elements(data, segment.data, len(data)):
        if element.kind == _CLUSTER:
            break
        found.setdefault(element.kind, element)
        if element.end > len(data):
            if element.kind == _CUES or not {_INFO, _TRACKS} <= found.keys():
                raise NeedsMore(0, element.end)
            break
    if not {_INFO, _TRACKS} <= found.keys():
        raise NoIndex("no Info and Tracks in front of the sound")
    scale_ms, end_ms = _clock(data, found[_INFO])
    cues_data, cues = _find_cues(parts, found, segment.data, size)
    starts = dict[int, float]()  # offset of a cluster to its time
    for time, position in _cue_points(cues_data, cues):
        starts.setdefault(segment.data + position, time * scale_ms)
    offsets = sorted(starts)
    last_end = size if _CUES in found else _cues_offset(data, found, segment.data, size)
    ends = [*offsets[1:], last_end]
    times = [*(starts[offset] for offset in offsets[1:]), max(end_ms, starts[offsets[-1]] + 1) if offsets else 0.0]
    pieces = (
        Piece(starts[offset], until_ms, offset, end - offset)
        for offset, end, until_ms in zip(offsets, ends, times, strict=True)
    )
    described = (data[found[kind].start : found[kind].end] for kind in (_INFO, _TRACKS))
    segment_id = data[segment.start : segment.start + 4]
    return MediaIndex(data[: header.end] + segment_id + _UNKNOWN_SIZE + b"".join(described), tuple(pieces))


def _find_cues(
    parts: dict[int, bytes], found: dict[int, _Element], segment_data: int, size: int
) -> tuple[bytes, _Element]:
    """The bytes that hold the Cues, and where in them. In front of the sound, or where the SeekHead says."""
    if _CUES in found:
        return parts[0], found[_CUES]
    offset = _cues_offset(parts[0], found, segment_data, size)
    if offset not in parts:
        raise NeedsMore(offset, None)
    element = next(_elements(parts[offset], 0, len(parts[offset])))
    if element.kind != _CUES or element.end > len(parts[offset]):
        raise NoIndex("no Cues where the SeekHead says")
    return parts[offset], element


def _cues_offset(data: bytes, found: dict[int, _Element], segment_data: int, size: int) -> int:
    if _SEEK_HEAD not in found:
        raise NoIndex("no Cues")
    for seek in _children(data, found[_SEEK_HEAD]):
        if seek.kind != _SEEK:
            continue
        fields = {child.kind: data[child.data : child.end] for child in _children(data, seek)}
        if int.from_bytes(fields.get(_SEEK_ID, b""), "big") == _CUES:
            offset = segment_data + int.from_bytes(fields.get(_SEEK_POSITION, b""), "big")
            if offset < size:
                return offset
    raise NoIndex("no Cues")


def _clock(data: bytes, info: _Element) -> tuple[float, float]:
    """Milliseconds per unit of time, and when the file ends."""
    scale_ns, duration = _DEFAULT_SCALE_NS, 0.0
    for field in _children(data, info):
        content = data[field.data : field.end]
        if field.kind == _TIMESTAMP_SCALE:
            scale_ns = int.from_bytes(content, "big")
        elif field.kind == _DURATION:
            (duration,) = struct.unpack(">d" if len(content) == 8 else ">f", content)
    return scale_ns / 1e6, duration * scale_ns / 1e6


def _cue_points(data: bytes, cues: _Element) -> Iterator[tuple[int, int]]:
    """Time and place, in the file's own units."""
    for point in _children(data, cues):
        if point.kind != _CUE_POINT:
            continue
        time = None
        for field in _children(data, point):
            if field.kind == _CUE_TIME:
                time = int.from_bytes(data[field.data : field.end], "big")
            elif field.kind == _CUE_POSITIONS and time is not None:
                for inner in _children(data, field):
                    if inner.kind == _CUE_CLUSTER:
                        yield time, int.from_bytes(data[inner.data : inner.end], "big")


def _children(data: bytes, parent: _Element) -> Iterator[_Element]:
    return _elements(data, parent.data, min(parent.end, len(data)))


def _elements(data: bytes, position: int, end: int) -> Iterator[_Element]:
    while position < end:
        kind, after = _number(data, position, keep_marker=True)
        length, content = _number(data, after, keep_marker=False)
        yield _Element(kind, position, content, content + length)
        position = content + length


def _number(data: bytes, position: int, *, keep_marker: bool) -> tuple[int, int]:
    """An EBML number and where it ends. Its first byte says by leading zeros how long it is."""
    first = data[position]
    if not first:
        raise NoIndex("a number of more than 8 bytes")
    length = 9 - first.bit_length()
    content = data[position : position + length]
    if len(content) < length:
        raise IndexError("cut off")
    value = int.from_bytes(content, "big")
    return (value if keep_marker else value & ~(1 << (7 * length))), position + length
