"""Transcripts of the demo's videos: one list of lines, written in every format of video sites and their tools."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True)
class Line:
    """One line of a transcript, spoken from `start_ms` to `end_ms`."""

    start_ms: int
    end_ms: int
    text: str


def json3(lines: Sequence[Line]) -> str:
    """Return automatic captions in json3: an event for the window, words with offsets, a line feed after each line."""
    end_ms = lines[-1].end_ms if lines else 0
    events: list[dict[str, Any]] = [{"tStartMs": 0, "dDurationMs": end_ms, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1}]
    for line in lines:
        words = [{"utf8": word} | ({"tOffsetMs": offset} if offset else {}) for word, offset in _timed_words(line)]
        duration_ms = line.end_ms - line.start_ms
        events.append({"tStartMs": line.start_ms, "dDurationMs": duration_ms, "wWinId": 1, "segs": words})
        feed = {"tStartMs": line.end_ms - 10, "dDurationMs": 10, "wWinId": 1, "aAppend": 1, "segs": [{"utf8": "\n"}]}
        events.append(feed)
    return json.dumps({"wireMagic": "pb3", "events": events})


def srv1(lines: Sequence[Line]) -> str:
    """Return captions in YouTube's XML, version 1: a text with start and duration per line."""
    rows = (
        f'<text start="{line.start_ms / 1000:g}" dur="{(line.end_ms - line.start_ms) / 1000:g}">'
        f"{escape(line.text)}</text>"
        for line in lines
    )
    return f'<?xml version="1.0" encoding="utf-8" ?><transcript>{"".join(rows)}</transcript>'


def srv3(lines: Sequence[Line]) -> str:
    """Return automatic captions in YouTube's XML, version 3: paragraphs of words with offsets."""
    rows = []
    for line in lines:
        words = "".join(f'<s t="{offset}" ac="0">{escape(word)}</s>' for word, offset in _timed_words(line))
        rows.append(f'<p t="{line.start_ms}" d="{line.end_ms - line.start_ms}" w="1">{words}</p>')
        rows.append(f'<p t="{line.end_ms - 10}" d="10" w="1" a="1">\n</p>')
    body = f'<body><w t="0" id="1" wp="1" ws="1"/>{"".join(rows)}</body>'
    return f'<?xml version="1.0" encoding="utf-8" ?><timedtext format="3"><head><ws id="0"/></head>{body}</timedtext>'


def vtt(lines: Sequence[Line]) -> str:
    """Return written captions in WebVTT."""
    blocks = [f"{_clock(line.start_ms, '.')} --> {_clock(line.end_ms, '.')}\n{escape(line.text)}\n" for line in lines]
    return "WEBVTT\nKind: captions\nLanguage: en\n\n" + "\n".join(blocks)


def rolling_vtt(lines: Sequence[Line]) -> str:
    """Return automatic captions in WebVTT: a line is shown while it is spoken, for 10 ms alone, then above the next."""
    out = ["WEBVTT\nKind: captions\nLanguage: en\n"]
    before = " "
    for line in lines:
        (first, _), *rest = _timed_words(line)
        words = first + "".join(f"<{_clock(line.start_ms + at, '.')}><c>{word}</c>" for word, at in rest)
        hold_ms = line.end_ms - 10
        place = "align:start position:0%"
        out.append(f"{_clock(line.start_ms, '.')} --> {_clock(hold_ms, '.')} {place}\n{before}\n{words}\n")
        out.append(f"{_clock(hold_ms, '.')} --> {_clock(line.end_ms, '.')} {place}\n{line.text}\n \n")
        before = line.text
    return "\n".join(out)


def srt(lines: Sequence[Line]) -> str:
    """Return captions in SubRip."""
    blocks = [
        f"{i}\n{_clock(line.start_ms, ',')} --> {_clock(line.end_ms, ',')}\n{line.text}\n"
        for i, line in enumerate(lines, 1)
    ]
    return "\n".join(blocks)


def ttml(lines: Sequence[Line]) -> str:
    """Return captions in TTML."""
    rows = "".join(
        f'<p begin="{_clock(line.start_ms, ".")}" end="{_clock(line.end_ms, ".")}">{escape(line.text)}</p>'
        for line in lines
    )
    return f'<?xml version="1.0" encoding="utf-8" ?><tt xmlns="http://www.w3.org/ns/ttml"><body><div>{rows}</div></body></tt>'


def api_json(lines: Sequence[Line]) -> str:
    """Return the list that youtube-transcript-api gives as raw data."""
    return json.dumps(
        [
            {"text": line.text, "start": line.start_ms / 1000, "duration": (line.end_ms - line.start_ms) / 1000}
            for line in lines
        ]
    )


def collapsed_json3(lines: Sequence[Line]) -> str:
    """Return a broken automatic track: the whole text in the first moments, then blank lines during the speech."""
    events: list[dict[str, Any]] = []
    at_ms = 0
    for line in lines:
        duration_ms = 15 * len(line.text.split())
        events.append({"tStartMs": at_ms, "dDurationMs": duration_ms, "wWinId": 1, "segs": [{"utf8": line.text}]})
        at_ms += duration_ms
    for line in lines:
        blank = {"tStartMs": line.start_ms, "dDurationMs": line.end_ms - line.start_ms, "segs": [{"utf8": "\n"}]}
        events.append(blank | {"wWinId": 1, "aAppend": 1})
    return json.dumps({"wireMagic": "pb3", "events": events})


FORMATS: dict[str, Callable[[Sequence[Line]], str]] = {
    "en.json3": json3,
    "en.srv1": srv1,
    "en.srv3": srv3,
    "en.vtt": vtt,
    "en-orig.vtt": rolling_vtt,
    "en.srt": srt,
    "en.ttml": ttml,
    "en.json": api_json,
}
"""The formats, by the endings that yt-dlp gives to its subtitle files."""


def _timed_words(line: Line) -> list[tuple[str, int]]:
    """Return the words of a line with their offsets in ms, evenly spread; after the first they begin with a space."""
    words = line.text.split()
    step = (line.end_ms - line.start_ms) // max(1, len(words))
    return [(word if i == 0 else " " + word, i * step) for i, word in enumerate(words)]


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"
