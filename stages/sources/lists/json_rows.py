"""Rows of lists in JSON: HD-VILA-100M, the released AutoReCap-XL, arrays of ids and of addresses.

A file holds one object per line, with or without a comma behind it and brackets around all. A damaged line costs its
own row.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from autorecap.base.text import printable
from autorecap.stages.records import MAX_VIDEO_MS
from autorecap.stages.sources.errors import SourceError
from autorecap.stages.sources.lists.formats import Layout, parsed
from autorecap.stages.sources.lists.lines import SHOWN_CHARS, Block, opened, path_shown, row_shown
from autorecap.stages.sources.lists.mentions import CLIPS, MENTIONS, Damaged, Mentions, Thresholds
from autorecap.stages.youtube.ids import ID, video_id_of

MAX_WHOLE_BYTES = 1_000_000_000
_FREESOUND = "freesound"  # a part of WavCaps, by its name in lists of exclusions
_BRACKETS = (b"", b"[", b"]", b"[]", b"],")
_VIDEO_ID = r'"video_id"\s*:\s*"(?P<id>[A-Za-z0-9_-]{11})"'


def ids(block: Block) -> Mentions:
    """Return the videos of HD-VILA's lines without reading their clips: most lines then need no Python object."""
    video_ids = pc.struct_field(pc.extract_regex(block.with_ends, _VIDEO_ID), "id")
    has_id = pc.is_valid(video_ids).to_numpy(zero_copy_only=False)
    others, damaged = {}, []
    skipped = 0
    for i in (~has_id).nonzero()[0].tolist():
        line = block.line(i).strip()
        if line in _BRACKETS:
            skipped += 1
        elif video_id := _id_of(parsed(line)):
            others[i] = video_id
        else:
            damaged.append(Damaged(block.first_line + i, "no video id", row_shown(line)))
    if others:
        texts = video_ids.to_pylist()
        for i, video_id in others.items():
            texts[i] = video_id.encode()
            has_id[i] = True
        video_ids = pa.array(texts, pa.binary())
    lines = pa.array(block.first_line + has_id.nonzero()[0], pa.int64())
    table = pa.table({"id": video_ids.filter(pa.array(has_id)).cast(pa.string()), "place": lines}, schema=MENTIONS)
    return Mentions(table, num_rows=len(block) - skipped, num_damaged=len(damaged), damaged=damaged)


def _id_of(item: Any) -> str | None:
    """Return the video of an object, an id or an address."""
    if isinstance(item, dict):
        for name in ("video_id", "url", "youtube_id", "id"):
            if isinstance(item.get(name), str) and (video_id := video_id_of(item[name])):
                return video_id
        return None
    return video_id_of(item) if isinstance(item, str) else None


class Reader:
    """Reads objects with the clips that they state. Rows are numbered over the whole list."""

    def __init__(self, layout: Layout, thresholds: Thresholds | None) -> None:
        self.layout = layout
        self.thresholds = thresholds or Thresholds()
        self.number = 0

    def read(self, block: Block) -> Mentions:
        part = _Part(self.number)
        for i in range(len(block)):
            line = block.line(i).strip()
            if line not in _BRACKETS:
                self._line(part, parsed(line), block.first_line + i, line)
        self.number = part.number
        return part.done()

    def _line(self, part: "_Part", item: Any, line: int, text: bytes) -> None:
        if self.layout.kind == "autorecap":
            if not isinstance(item, dict) or not item:
                part.damage(line, "no JSON object" if item is None else "no video", row_shown(text))
                return
            for video_id, value in item.items():
                self.released(part, video_id, value, line)
        else:
            self.hdvila(part, item, line, text)

    def released(self, part: "_Part", video_id: str, value: Any, line: int) -> None:
        intervals = value.get("intervals") if isinstance(value, dict) else None
        if not ID.fullmatch(video_id) or not isinstance(intervals, list):
            part.damage(line, "no video id" if isinstance(intervals, list) else "no intervals", printable(video_id))
            return
        clips, below = [], 0
        for n, interval in enumerate(intervals):
            span = _span(interval.get("start"), interval.get("end")) if isinstance(interval, dict) else None
            score = interval.get("CLAP_SIM") if isinstance(interval, dict) else None
            if span is None or not (score is None or _is_number(score)):
                part.left_out["damaged"] += 1
                part.note(line, f"interval {n} of {video_id}: {'no times' if span is None else 'no score'}", interval)
            elif why := self._below(span, score):
                part.left_out[why] += 1
                below += 1
            else:
                clips.append((*span, _text(interval.get("text")), None if score is None else float(score), None, None))
        if not clips and not below:
            part.damage(line, f"no clip of {video_id} can be used", "")
            return
        part.add(video_id, clips)

    def _below(self, span: tuple[int, int], score: Any) -> str:
        limits = self.thresholds
        if limits.min_clap is not None and score is None:
            return "without a score"
        if limits.min_clap is not None and score < limits.min_clap:
            return f"below {limits.min_clap:g}"
        if limits.min_seconds is not None and span[1] - span[0] < limits.min_seconds * 1000:
            return f"shorter than {limits.min_seconds:g} s"
        return ""

    def hdvila(self, part: "_Part", item: Any, line: int, text: bytes) -> None:
        video_id = _id_of(item)
        if video_id is None:
            part.damage(line, "no video id", row_shown(text))
            return
        clips = []
        entries = [item]  # flat: one clip is one object
        if not isinstance(item, dict):
            entries = []
        elif isinstance(item.get("clip"), list):
            entries = item["clip"]
        for n, entry in enumerate(entries):
            span, caption = None, ""
            if isinstance(entry, dict):
                both = entry.get("span", [entry.get("span_start"), entry.get("span_end")])
                span = _clock_span(both)
                caption = _text(entry.get("caption"))
            if span is None:
                part.left_out["damaged"] += 1
                part.note(line, f"clip {n} of {video_id}: no times", entry)
            else:
                clips.append((*span, None, None, caption, None))
        part.add(video_id, clips, keep=True)


class _Part:
    """Rows that are read and not yet returned."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.num_rows = self.num_damaged = self.num_filtered = 0
        self.left_out: Counter[str] = Counter()
        self.damaged: list[Damaged] = []
        self.videos: list[tuple[str, int]] = []
        self.clips: list[tuple[Any, ...]] = []

    def add(self, video_id: str, clips: list[tuple[Any, ...]], *, keep: bool = False) -> None:
        self.num_rows += 1
        self.number += 1
        if not clips and not keep:
            self.num_filtered += 1
            return
        self.videos.append((video_id, self.number))
        self.clips += [(video_id, self.number, *clip) for clip in clips]

    def damage(self, line: int, what: str, text: str) -> None:
        self.num_rows += 1
        self.number += 1
        self.num_damaged += 1
        self.damaged.append(Damaged(line, what, text))

    def note(self, line: int, what: str, value: Any) -> None:
        self.damaged.append(Damaged(line, what, printable(str(value), SHOWN_CHARS)))

    def done(self) -> Mentions:
        return Mentions(
            _columns(self.videos, MENTIONS),
            _columns(self.clips, CLIPS),
            num_rows=self.num_rows,
            num_damaged=self.num_damaged,
            num_filtered=self.num_filtered,
            clips_left_out=dict(self.left_out),
            damaged=self.damaged,
        )


def _columns(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema=schema)


def whole(path: str, layout: Layout, thresholds: Thresholds | None) -> Iterator[Mentions]:
    """Read a file that is one JSON value: an array of objects, ids or addresses, an object by id, a list of exclusions.

    Raises SourceError where it is damaged, since nothing then tells its rows apart, or too large to be read at once.
    """
    value = _value(path)
    reader = Reader(layout, thresholds)
    part = _Part(0)
    items = [value] if isinstance(value, dict) and layout.kind != "ids" else value
    if isinstance(items, dict):  # {"AudioSet": ["Yabcdefghijk.wav", ...], "FreeSound": ["156", ...]}
        items = [name for key, names in items.items() if key.lower() != _FREESOUND for name in _listed(names)]
    for number, item in enumerate(items if isinstance(items, list) else []):
        if layout.kind == "ids":
            video_id = _id_of(item) or _file_id(item)
            if video_id:
                part.add(video_id, [], keep=True)
            else:
                part.damage(number + 1, "no video id", printable(str(item), SHOWN_CHARS))
        else:
            reader._line(part, item, number + 1, str(item)[:SHOWN_CHARS].encode("utf-8", "replace"))
    yield part.done()


def freesound_ids(path: str) -> set[str]:
    """Return the Freesound files that a list of exclusions names. Raises SourceError as `whole` does."""
    value = _value(path)
    named = value.items() if isinstance(value, dict) else ()
    sounds = [str(name) for key, names in named if key.lower() == _FREESOUND for name in _listed(names)]
    return {name.rpartition(".")[0] or name for name in sounds}


def _value(path: str) -> Any:
    shown = path_shown(path)
    with opened(path) as file:
        data = file.read(MAX_WHOLE_BYTES + 1)
    if len(data) > MAX_WHOLE_BYTES:
        raise SourceError(
            f"{shown} is one JSON value of over {MAX_WHOLE_BYTES / 1e9:g} GB: make lines of it (jq -c '.[]')"
        )
    try:
        return json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{shown} is damaged ({error}): fetch it again") from None


def _listed(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [names]


def _file_id(item: Any) -> str | None:
    """Return the id in the name of a WavCaps file of AudioSet, such as Yabcdefghijk.wav."""
    if not isinstance(item, str):
        return None
    stem = item.rpartition(".")[0]
    return stem[1:] if stem.startswith("Y") and ID.fullmatch(stem[1:]) else None


def _span(start: Any, end: Any) -> tuple[int, int] | None:
    """Convert seconds to milliseconds; None where they are no span of a video."""
    if not _is_number(start) or not _is_number(end) or not 0 <= start < end <= MAX_VIDEO_MS / 1000:
        return None
    span = round(start * 1000), round(end * 1000)
    return span if span[0] < span[1] else None


def _clock_span(span: Any) -> tuple[int, int] | None:
    """Read a span such as ["00:00:17.759", "00:00:23.279"], or one in numbers of seconds."""
    if not isinstance(span, list) or len(span) != 2:
        return None
    return _span(*map(_clock_s, span))


def _clock_s(value: Any) -> float | None:
    if _is_number(value):
        seconds: float = value
        return seconds
    if not isinstance(value, str):
        return None
    seconds = 0.0
    for part in value.split(":"):
        if not part.replace(".", "", 1).isdecimal() or not part.isascii():
            return None
        seconds = seconds * 60 + float(part)
    return seconds


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float can hold: integers of JSON may have hundreds of digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _text(value: Any) -> str:
    """Return a caption on one line, without control characters."""
    return printable(value, 2000) if isinstance(value, str) else ""
