"""YouTube's json3: `events` with `tStartMs`, `dDurationMs`, `aAppend` and `segs` of `utf8` and `tOffsetMs`.

An event without `segs` defines a window and lasts as long as the video: it is no cue. A field that is zero may be
absent, as in every JSON that is written from protocol buffers.
"""

from typing import Any

from stages.transcripts.rows import Row, to_cues
from stages.transcripts.times import to_ms
from stages.transcripts.transcript import Transcript, TranscriptError


def parse_json3(document: dict[str, Any]) -> Transcript:
    """The transcript in a decoded json3 document. Raises TranscriptError."""
    events = document.get("events", [])
    if not isinstance(events, list):
        raise TranscriptError(f"json3: events is a {type(events).__name__}, expected a list")
    rows = []
    is_auto = False
    for number, event in enumerate(events, 1):
        if not isinstance(event, dict):
            raise TranscriptError(f"json3: event {number} is a {type(event).__name__}, expected an object")
        segs = event.get("segs")
        if segs is None:
            continue
        if not isinstance(segs, list):
            raise TranscriptError(f"json3: segs of event {number} is a {type(segs).__name__}, expected a list")
        segments = _segments(segs, number)
        start_ms = to_ms(event.get("tStartMs", 0), unit_ms=1)
        if start_ms is None:
            if not "".join(text for _, text in segments).strip():
                continue
            raise TranscriptError(
                f"json3: tStartMs of event {number} is {str(event['tStartMs'])[:40]!r}, expected milliseconds"
            )
        appends = bool(event.get("aAppend"))
        if not is_auto:
            is_auto = appends or any("acAsrConf" in seg or "tOffsetMs" in seg for seg in segs)
        rows.append(Row(start_ms, to_ms(event.get("dDurationMs"), unit_ms=1), segments, appends))
    return Transcript(to_cues(rows), "json3", is_auto)


def _segments(segs: list[Any], number: int) -> list[tuple[int, str]]:
    try:  # as they should be, without a look at each field: there is one for every word
        offsets_ms = [seg.get("tOffsetMs", 0) for seg in segs]
        texts = [seg["utf8"] for seg in segs]
        if set(map(type, offsets_ms)) <= {int} and set(map(type, texts)) <= {str}:
            return list(zip(offsets_ms, texts, strict=True))
    except (AttributeError, KeyError, TypeError):
        pass
    return [_segment(seg, number) for seg in segs]


def _segment(seg: Any, number: int) -> tuple[int, str]:
    text = seg.get("utf8", "") if isinstance(seg, dict) else None
    if not isinstance(text, str):
        raise TranscriptError(f"json3: a segment of event {number} is {str(seg)[:40]!r}, expected an object with utf8")
    return to_ms(seg.get("tOffsetMs", 0), unit_ms=1) or 0, text
