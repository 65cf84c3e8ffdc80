"""Formats of lists, recognised by the first lines of a file; docs/lists.md shows a row of each."""

import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from autorecap.base.text import printable
from autorecap.stages.sources.errors import SourceError
from autorecap.stages.sources.lists.lines import opened, path_shown
from autorecap.stages.youtube.ids import ID, video_id_of

_HEAD_BYTES = 1_000_000
_HEAD_LINES = 400
SPREADSHEET_ERROR = re.compile(rb"#(?:NAME\?|VALUE!|REF!|N/A|NUM!|DIV/0!|NULL!)")
"""What a spreadsheet makes of an id that begins with a dash. Such a line is a damaged row, not a comment."""

SECONDS, MICROSECONDS = 1000.0, 0.001  # in milliseconds
TEN_SECONDS_MS = 10_000


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How to read the rows of a list."""

    kind: str  # one of FORMATS
    is_json: bool = False
    whole: bool = False  # JSON that is not one object per line: read at once
    separator: str = ","
    has_header: bool = False
    id_column: int = 0
    start_column: int | None = None  # None: the list states no times
    end_column: int | None = None  # None: `clip_ms` after the start
    unit_ms: float = SECONDS
    clip_ms: int = TEN_SECONDS_MS
    span_column: int | None = None  # "[start, end]" in one column
    name_unit_ms: float = 0.0  # not 0: the id is followed by the start in this unit, as in ID_000030.mp4
    text_column: int | None = None  # of the caption or the labels: it goes on to the last columns
    columns_after_text: int = 0
    text_is: str = ""  # caption | labels (separated by commas) | label

    @property
    def has_times(self) -> bool:
        return self.start_column is not None or self.span_column is not None or self.name_unit_ms > 0


_AUDIOSET = Layout(kind="audioset", start_column=1, end_column=2, text_column=3, text_is="labels")
# A row is an event in a segment, with times from its start on; the segment is ID_30000, in milliseconds.
_STRONG = Layout(kind="audioset", separator="\t", has_header=True, name_unit_ms=1.0, text_column=3, text_is="label")
_VGGSOUND = Layout(kind="vggsound", start_column=1, text_column=2, columns_after_text=1, text_is="label")
_VGGSOUND_NAMES = Layout(kind="vggsound", name_unit_ms=SECONDS, text_column=1, text_is="label")  # ID_000030.mp4,label
_ACAV = Layout(kind="acav100m", start_column=1, end_column=2)
_ACAV_OUTPUT = Layout(kind="acav100m", id_column=2, span_column=3)
_ACAV_META = Layout(kind="acav100m", separator="\t")
_VIDEOCC = Layout(kind="videocc", start_column=1, end_column=2, unit_ms=MICROSECONDS, text_column=3, text_is="caption")
_YTTEMPORAL = Layout(kind="yttemporal1b")
_AUDIOCAPS = Layout(kind="audiocaps", has_header=True, id_column=1, start_column=2, text_column=3, text_is="caption")
_HDVILA = Layout(kind="hdvila100m", is_json=True)
_RELEASED = Layout(kind="autorecap", is_json=True)
_IDS = Layout(kind="ids")
_BLACKLIST = Layout(kind="ids", is_json=True, whole=True)

FORMATS = {
    "audioset": _AUDIOSET,
    "vggsound": _VGGSOUND,
    "acav100m": _ACAV,
    "videocc": _VIDEOCC,
    "yttemporal1b": _YTTEMPORAL,
    "hdvila100m": _HDVILA,
    "audiocaps": _AUDIOCAPS,
    "autorecap": _RELEASED,
    "ids": _IDS,
}
"""The formats by name, as in NAME=PATH."""

_ID_NAMES = (
    *("ytid", "youtube_id", "youtubeid", "yt_id", "video_id", "videoid", "segment_id", "id", "video", "vid"),
    *("youtube_url", "video_url", "url", "link", "webpage_url"),
)
_START_NAMES = ("start_seconds", "start_time_seconds", "start_time", "start_sec", "start")
_END_NAMES = ("end_seconds", "end_time_seconds", "end_time", "end_sec", "end")
_CLIP_NAME = re.compile(r"[A-Za-z0-9_-]{11}_\d+(?:\.\w{1,5})?")  # VGGSound's ID_000030.mp4, AudioSet's segment_id
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")


def detect(path: str, name: str = "") -> Layout:
    """Recognise the layout of a list. Raises SourceError that says what was found.

    `name`: the format, where the user states it.
    """
    if name and name not in FORMATS:
        raise SourceError(f"{printable(name)}={path_shown(path)}: no such format; known are {', '.join(FORMATS)}")
    with opened(path) as file:
        data = _peeked(file)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    lines = [line for line in re.split(r"\r\n|\n|\r", text)[:_HEAD_LINES] if line.strip()]
    is_cut = len(data) >= _HEAD_BYTES
    if is_cut and len(lines) > 1:
        lines = lines[:-1]
    if text.lstrip()[:1] in ("{", "["):
        layout = _of_json(lines, text, path)
    else:
        layout = _of_rows([line for line in lines if not is_comment(line.encode())], path, name)
    if name and layout.kind != name:
        forced = FORMATS[name]
        if forced.is_json != layout.is_json:
            raise SourceError(
                f"{path_shown(path)}: {'JSON' if layout.is_json else 'no JSON'} found, {name} is "
                f"{'JSON' if forced.is_json else 'no JSON'}: leave {name}= out to have the format told by its content"
            )
        forced_rows = replace(forced, has_header=layout.has_header)
        return replace(layout, kind=name) if layout.is_json or not forced.has_times else forced_rows
    return layout


def is_comment(line: bytes) -> bool:
    return line.lstrip(b'" ').startswith(b"#") and not SPREADSHEET_ERROR.match(line.lstrip(b'" '))


def _peeked(file: Any) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size < _HEAD_BYTES:
        try:
            piece = file.read1(_HEAD_BYTES)
        except (EOFError, OSError):  # it breaks off; what there is may do
            break
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:_HEAD_BYTES]


def _no_list(path: str) -> SourceError:
    shown = path_shown(path)
    return SourceError(f"{shown} is an audio set: name the folder of its files as well, {shown}@FOLDER")


# --- JSON


def _of_json(lines: Sequence[str], text: str, path: str) -> Layout:
    """Judge by the first object that can be read as a line of its own; without one the file is one value."""
    for line in lines[:50]:
        item = parsed(line)
        if isinstance(item, dict):
            layout = _of_object(item)
            if layout:
                return layout
    for mark, layout in (
        ('"intervals"', _RELEASED),
        ('"span_start"', _HDVILA),
        ('"clip"', _HDVILA),
        ('"data"', None),
    ):
        if mark in text[:_HEAD_BYTES]:
            if layout is None:
                raise _no_list(path)
            return replace(layout, whole=True)
    return _BLACKLIST


def parsed(line: str | bytes) -> Any:
    """Return the value on a line of JSON, without the comma that may follow it; None where there is none."""
    try:
        return json.loads(line.strip().rstrip(b"," if isinstance(line, bytes) else ","))  # type: ignore[arg-type]
    except (ValueError, RecursionError):
        return None


def _of_object(item: dict[str, Any]) -> Layout | None:
    if isinstance(item.get("video_id"), str) or isinstance(item.get("url"), str):
        return _HDVILA
    if item and all(isinstance(value, dict) and "intervals" in value for value in item.values()):
        return _RELEASED
    return None


# --- rows


def _of_rows(lines: Sequence[str], path: str, name: str) -> Layout:
    if not lines:
        raise SourceError(f"{path_shown(path)} holds no row: name a list of video ids")
    separator = "\t" if sum("\t" in line for line in lines) * 2 > len(lines) else ","
    rows = [split_row(line, separator) for line in lines]
    header = [cell.strip().lstrip("\ufeff").lower().replace(" ", "_") for cell in rows[0]]
    if "audiocap_id" in header and "youtube_id" in header:
        return _by_names(_AUDIOCAPS, header, "caption")
    if "file_name" in header and not set(header) & set(_ID_NAMES):
        raise _no_list(path)
    known = next((column for column in _ID_NAMES if column in header), None)
    if known:
        return _of_header(header, rows[1:], known, separator)
    return replace(_of_shape(rows, path, name), separator=separator)


def split_row(line: str, separator: str) -> list[str]:
    """Split a row into cells; a damaged row as far as that is possible."""
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return line.split(separator)


def _of_header(header: list[str], rows: Sequence[list[str]], known: str, separator: str) -> Layout:
    at = header.index(known)
    names = set(header)
    if "positive_labels" in names:
        return _by_names(replace(_AUDIOSET, separator=separator), header, "positive_labels", known)
    if known == "segment_id":
        return _by_names(replace(_STRONG, separator=separator), header, "label", known)
    if {"start", "end", "caption"} <= names and _micro(rows, header.index("start"), header.index("end")):
        return _by_names(replace(_VIDEOCC, separator=separator), header, "caption", known)
    if header == ["videoid", "start", "end"]:
        return replace(_ACAV, has_header=True, separator=separator)
    if header in (["video_id"], ["", "video_id"]):
        return replace(_YTTEMPORAL, has_header=True, id_column=at, separator=separator)
    layout = _by_names(replace(_IDS, separator=separator), header, "", known)
    return layout if layout.end_column is not None else replace(layout, start_column=None)


def _by_names(layout: Layout, header: list[str], text: str, known: str = "youtube_id") -> Layout:
    """Set the columns that the header names."""
    start = end = None
    if not layout.name_unit_ms:
        start = next((header.index(column) for column in _START_NAMES if column in header), None)
        end = next((header.index(column) for column in _END_NAMES if column in header), None)
    at = header.index(text) if text in header else None
    return replace(
        layout,
        has_header=True,
        id_column=header.index(known),
        start_column=start,
        end_column=end,
        text_column=at,
        columns_after_text=len(header) - 1 - at if at is not None else 0,
    )


def _micro(rows: Sequence[list[str]], start: int, end: int) -> bool:
    """Return whether times are microseconds: whole numbers, and as seconds a clip of 0.1 s would be days long."""
    numbers = [(row[start].strip(), row[end].strip()) for row in rows if len(row) > max(start, end)]
    spans = [int(b) - int(a) for a, b in numbers if a.isdecimal() and b.isdecimal()]
    return bool(spans) and 2 * sum(span >= 100_000 for span in spans) > len(numbers)


def _of_shape(rows: Sequence[list[str]], path: str, name: str) -> Layout:
    """Judge by the shape of most rows, where no header names the columns."""
    votes = Counter(_shape(row) for row in rows)
    del votes[None]
    if not votes:
        some = "; ".join(printable(",".join(row), 60) for row in rows[:3])
        if name:
            return FORMATS[name]
        raise SourceError(
            f"{path_shown(path)}: no video id in its first {len(rows)} rows ({some}). A list holds ids of 11 "
            f"characters or addresses of YouTube, or is one of: {', '.join(FORMATS)}"
        )
    layout = votes.most_common(1)[0][0]
    assert layout is not None
    if layout is _VIDEOCC and not _micro(rows, 1, 2):
        return replace(_ACAV, kind="ids")  # the same in seconds
    return layout


def _shape(row: list[str]) -> Layout | None:
    cells = [cell.strip() for cell in row]
    if not cells:
        return None
    has_id = video_id_of(cells[0]) is not None
    if has_id and len(cells) > 3 and _NUMBER.fullmatch(cells[1]) and _NUMBER.fullmatch(cells[2]):
        return _AUDIOSET if re.match(r'"?/[mtg]/', cells[3]) else _VIDEOCC
    if has_id and len(cells) >= 3 and _NUMBER.fullmatch(cells[1]):
        if _NUMBER.fullmatch(cells[2]):
            return _ACAV
        if len(cells) > 3 and cells[-1] in ("train", "test", "val"):
            return _VGGSOUND
    if len(cells) == 2 and _CLIP_NAME.fullmatch(cells[0]):
        return _VGGSOUND_NAMES
    if len(cells) >= 4 and ID.fullmatch(cells[2]) and cells[3].startswith("["):
        return _ACAV_OUTPUT
    if len(cells) == 2 and "://" in cells[0] and cells[1].startswith("{"):
        return _ACAV_META if has_id else None
    at = next((i for i, cell in enumerate(cells) if video_id_of(cell)), None)
    return None if at is None else replace(_IDS, id_column=at)
