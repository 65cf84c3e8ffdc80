"""YouTube's XML formats, recognised by their elements.

srv1: `<transcript><text start="1.54" dur="4.16">`, seconds.
srv2: `<timedtext><text t="1540" d="4160" append="1">`, milliseconds.
srv3: `<timedtext format="3"><body><p t="1540" d="4160" a="1"><s t="320" ac="248"> word</s>`, milliseconds; a word's
time counts from its row. `<w>`, `<ws>` and `<wp>` are windows and styles.
"""

from autorecap.stages.transcript_files.rows import Row, to_cues
from autorecap.stages.transcript_files.times import to_ms
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError
from autorecap.stages.transcript_files.xml_stream import read_xml


def parse_timedtext(text: str) -> Transcript:
    """Read the transcript in an srv1, srv2 or srv3 document. Raises TranscriptError."""
    handler = _TimedText()
    read_xml(text, handler)
    return Transcript(to_cues(handler.rows), handler.format, handler.is_auto)


class _TimedText:
    def __init__(self) -> None:
        self.format = ""
        self.is_auto = False
        self.rows: list[Row] = []
        self._row_element = ""  # name of the open row
        self._attributes: dict[str, str] = {}
        self._segments: list[str] = []  # finished ones of the open row
        self._offsets_ms: list[int] = []
        self._offset_ms = 0
        self._texts: list[str] = []  # of the open segment

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.format:
            self.format = {"transcript": "srv1", "timedtext": "srv3"}.get(name, "")
            if not self.format:
                raise TranscriptError(f"XML with the root <{name[:40]}>, expected <transcript>, <timedtext> or <tt>")
        elif self._row_element:
            self._start_inside_row(name, attributes)
        elif name in ("text", "p"):
            if name == "text" and self.format == "srv3":
                self.format = "srv2"
            self._row_element, self._attributes = name, attributes
            self._segments, self._offsets_ms, self._offset_ms, self._texts = [], [], 0, []

    def _start_inside_row(self, name: str, attributes: dict[str, str]) -> None:
        if name == "br":
            self._texts.append("\n")
        elif name == "s":
            self._end_segment()
            self._offset_ms = to_ms(attributes.get("t", "0"), unit_ms=1) or 0
            self.is_auto = self.is_auto or "ac" in attributes or "t" in attributes

    def data(self, text: str) -> None:
        if self._row_element:
            self._texts.append(text)

    def end(self, name: str) -> None:
        if name == "s":
            self._end_segment()
        elif name == self._row_element:
            self._end_segment()
            self._end_row()
            self._row_element = ""

    def _end_segment(self) -> None:
        if self._texts:
            self._segments.append("".join(self._texts))
            self._offsets_ms.append(self._offset_ms)
        self._texts, self._offset_ms = [], 0

    def _end_row(self) -> None:
        row = self._attributes
        if self.format == "srv1":
            start_key, start, duration, unit_ms = "start", row.get("start"), row.get("dur"), 1000
        else:
            start_key, start, duration, unit_ms = "t", row.get("t", "0"), row.get("d"), 1
        start_ms = to_ms(start, unit_ms=unit_ms)
        if start_ms is None:
            if not "".join(self._segments).strip():
                return
            unit = "seconds" if unit_ms == 1000 else "milliseconds"
            found = "missing" if start is None else repr(start[:40])
            raise TranscriptError(f"{self.format}: {start_key} of row {len(self.rows) + 1} is {found}, expected {unit}")
        appends = row.get("a") == "1" or row.get("append") == "1"
        self.is_auto = self.is_auto or appends
        self.rows.append(Row(start_ms, to_ms(duration, unit_ms=unit_ms), self._segments, self._offsets_ms, appends))
