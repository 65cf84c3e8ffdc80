"""TTML (and its old name DFXP): `<tt><body><div><p begin="00:00:01.500" end="00:00:04.000">`.

Time expressions: https://www.w3.org/TR/ttml1/#timing-value-timeExpression. Times of `<body>` and `<div>` shift the
rows inside them.
"""

import re
from decimal import Decimal

from autorecap.stages.records import Cue
from autorecap.stages.transcript_files.cue_text import clean_text, is_blank
from autorecap.stages.transcript_files.times import clock_to_ms, to_ms
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError
from autorecap.stages.transcript_files.xml_stream import read_xml

_OFFSET = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(h|ms|m|s|f|t)", re.ASCII)
_FRAMES = re.compile(r"(\d{1,6}:\d{1,2}:\d{1,2}):(\d{1,3})(?:\.\d{1,9})?", re.ASCII)
_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_ttml(text: str) -> Transcript:
    """Read the transcript in a TTML document. Raises TranscriptError."""
    handler = _Ttml()
    read_xml(text, handler)
    return Transcript(tuple(handler.cues), "ttml")


class _Ttml:
    def __init__(self) -> None:
        self.cues: list[Cue] = []
        self._ticks_per_s = 1
        self._frames_per_s = 30  # the standard's default
        self._containers_ms: list[int] = []  # begin of every open element outside a row, summed from the root
        self._row: dict[str, str] | None = None
        self._depth_in_row = 0
        self._texts: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._containers_ms:
            self._frames_per_s = _rate(attributes.get("frameRate"), 30)
            self._ticks_per_s = _rate(attributes.get("tickRate"), 1)
        if self._row is not None:
            self._depth_in_row += 1
            self._texts.append("\n" if name == "br" else "")
        elif name == "p":
            self._row, self._depth_in_row, self._texts = attributes, 0, []
        else:
            outer_ms = self._containers_ms[-1] if self._containers_ms else 0
            self._containers_ms.append(outer_ms + (self._time_ms(attributes.get("begin", "")) or 0))

    def data(self, text: str) -> None:
        if self._row is not None:
            self._texts.append(text)

    def end(self, name: str) -> None:
        if self._row is None:
            self._containers_ms.pop()
        elif self._depth_in_row:
            self._depth_in_row -= 1
        else:
            self._end_row(self._row, clean_text("".join(self._texts)))
            self._row = None

    def _end_row(self, row: dict[str, str], text: str) -> None:
        begin_ms = self._time_ms(row.get("begin", ""))
        if begin_ms is None:
            if is_blank(text):
                return
            found = repr(row["begin"][:40]) if "begin" in row else "missing"
            raise TranscriptError(f"ttml: begin of row {len(self.cues) + 1} is {found}, expected a time")
        duration_ms = self._time_ms(row.get("dur", ""))
        end_ms = self._time_ms(row.get("end", ""))
        if duration_ms is None and end_ms is not None:
            duration_ms = end_ms - begin_ms
        start_ms = begin_ms + (self._containers_ms[-1] if self._containers_ms else 0)
        self.cues.append(Cue(start_ms=start_ms, duration_ms=duration_ms, text=text))

    def _time_ms(self, expression: str) -> int | None:
        expression = expression.strip()
        if match := _OFFSET.fullmatch(expression):
            number, unit = match.groups()
            if unit in _UNIT_MS:
                return to_ms(number, unit_ms=_UNIT_MS[unit])
            return to_ms(Decimal(number) / (self._ticks_per_s if unit == "t" else self._frames_per_s), unit_ms=1000)
        if match := _FRAMES.fullmatch(expression):
            whole_ms = clock_to_ms(match[1])
            return None if whole_ms is None else whole_ms + int(match[2]) * 1000 // self._frames_per_s
        return clock_to_ms(expression)


def _rate(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"[1-9][0-9]{0,9}", text) else default
