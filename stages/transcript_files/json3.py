"""YouTube's json3: `events` with `tStartMs`, `dDurationMs`, `aAppend` and `segs` of `utf8` and `tOffsetMs`.

An event without `segs` defines a window and lasts as long as the video: it is no cue. A field that is zero may be
absent, as in every JSON that is written from protocol buffers.
"""

from typing import Annotated, Any

import msgspec

from autorecap.stages.transcript_files.rows import Row, to_cues
from autorecap.stages.transcript_files.times import MAX_MS, to_ms
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError

_Ms = Annotated[int, msgspec.Meta(ge=-MAX_MS, le=MAX_MS)]  # a file with larger numbers is read field by field


class _Seg(msgspec.Struct, gc=False):
    utf8: str
    tOffsetMs: _Ms | None = None
    acAsrConf: Any = None


class _Event(msgspec.Struct, gc=False):
    tStartMs: _Ms = 0
    dDurationMs: _Ms | None = None
    aAppend: Any = 0
    segs: list[_Seg] | None = None


class _Document(msgspec.Struct, gc=False):
    events: list[_Event]


_OF_SPEECH = ("tOffsetMs", "acAsrConf")  # fields that only speech recognition writes
_DECODER = msgspec.json.Decoder(_Document)


def parse_regular_json3(text: str) -> Transcript | None:
    """Read the text of a json3 file if each of its fields has its own type, as nearly always; else return None.

    It takes half the time of `parse_json3`, which says what is wrong where this one returns None.
    """
    try:
        events = _DECODER.decode(text).events
    except (msgspec.MsgspecError, RecursionError):
        return None
    rows = []
    for event in events:
        if event.segs is None:
            continue
        texts = [seg.utf8 for seg in event.segs]
        offsets_ms = [seg.tOffsetMs or 0 for seg in event.segs]
        rows.append(Row(event.tStartMs, event.dDurationMs, texts, offsets_ms, bool(event.aAppend)))
    is_auto = any(
        event.segs is not None
        and (event.aAppend or any(seg.tOffsetMs is not None or seg.acAsrConf is not None for seg in event.segs))
        for event in events
    )
    return Transcript(to_cues(rows), "json3", is_auto)


def parse_json3(document: dict[str, Any]) -> Transcript:
    """Read the transcript in a decoded json3 document. Raises TranscriptError."""
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
        texts = [_text(seg, number) for seg in segs]
        offsets_ms = [to_ms(seg.get("tOffsetMs", 0), unit_ms=1) or 0 for seg in segs]
        start_ms = to_ms(event.get("tStartMs", 0), unit_ms=1)
        if start_ms is None:
            if not "".join(texts).strip():
                continue
            raise TranscriptError(
                f"json3: tStartMs of event {number} is {str(event['tStartMs'])[:40]!r}, expected milliseconds"
            )
        appends = bool(event.get("aAppend"))
        if not is_auto:
            is_auto = appends or any(seg.get(name) is not None for seg in segs for name in _OF_SPEECH)
        rows.append(Row(start_ms, to_ms(event.get("dDurationMs"), unit_ms=1), texts, offsets_ms, appends))
    return Transcript(to_cues(rows), "json3", is_auto)


def _text(seg: Any, number: int) -> str:
    text = seg.get("utf8", "") if isinstance(seg, dict) else None
    if not isinstance(text, str):
        raise TranscriptError(f"json3: a segment of event {number} is {str(seg)[:40]!r}, expected an object with utf8")
    return text
