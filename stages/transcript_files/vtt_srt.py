"""WebVTT and SubRip: https://www.w3.org/TR/webvtt1/. One parser reads both; header and decimal sign differ.

YouTube's automatic VTT rolls two lines, so most texts appear two or three times; nothing is de-duplicated here, for a
repeated line is on the screen all the same. Its cue bodies often begin with a blank line, which must not end them.
"""

import re
from collections.abc import Iterator

from autorecap.stages.records import Cue
from autorecap.stages.transcript_files.cue_text import clean_text, is_blank
from autorecap.stages.transcript_files.times import clock_to_ms
from autorecap.stages.transcript_files.transcript import Transcript, TranscriptError

_TIME = r"-?(?:\d{1,6}:)?\d{1,2}:\d{1,2}(?:[.,]\d{1,9})?"
_TIMING = re.compile(rf"\s{{0,9}}({_TIME})\s{{0,9}}-->\s{{0,9}}({_TIME})(?:\s.*)?", re.ASCII | re.DOTALL)
_WORD_TIME = re.compile(r"<((?:\d{1,6}:)?\d{1,2}:\d{2}\.\d{3})>", re.ASCII)
_LINE_END = re.compile(r"\r\n|\n|\r")  # and no other: U+2028 may stand inside a text


def has_timing_line(text: str) -> bool:
    """Return whether `text` is SubRip, or WebVTT whose header is lost: it has a time range within its first lines."""
    return any(_TIMING.fullmatch(line) for line in _LINE_END.split(text[:4000]))


def parse_vtt_srt(text: str, *, is_vtt: bool) -> Transcript:
    """Read the transcript in a WebVTT or SubRip document. Raises TranscriptError."""
    cues = tuple(_cue(*block) for block in _blocks(_LINE_END.split(text)))
    has_word_times = any(len(cue.word_starts_ms) > 1 for cue in cues)
    return Transcript(cues, "vtt" if is_vtt else "srt", is_auto=has_word_times)


def _blocks(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (start_ms, end_ms, body) of every cue. A body ends at an empty line, but not before it has any text."""
    timing: tuple[int, int] | None = None
    body: list[str] = []
    has_text = False
    in_comment = False
    for i, line in enumerate(lines):
        if not line:
            in_comment = False
            if timing and has_text:
                yield *timing, "\n".join(body)
                timing = None
            continue
        after_empty = i == 0 or not lines[i - 1]
        if in_comment or (after_empty and re.match(r"NOTE(?:\s|$)", line)):
            in_comment = True
        elif "-->" in line and (match := _TIMING.fullmatch(line)):
            if timing:
                yield *timing, "\n".join(body)
            timing, body, has_text = (_time_ms(match[1]), _time_ms(match[2])), [], False
        elif "-->" in line and (after_empty or (not timing and lines[i - 1].strip().isdigit())):
            raise TranscriptError(f"line {i + 1}: {line[:60]!r} is no range of times, expected 00:00:01.000 --> ...")
        elif timing and not _is_identifier(lines, i):
            body.append(line)
            has_text = has_text or not is_blank(line)
    if timing:
        yield *timing, "\n".join(body)


def _is_identifier(lines: list[str], i: int) -> bool:
    """Return whether line `i` names the cue below it, after an empty line or, as SubRip's numbers do, at once."""
    has_timing_below = i + 1 < len(lines) and "-->" in lines[i + 1] and bool(_TIMING.fullmatch(lines[i + 1]))
    return has_timing_below and (not lines[i - 1] or lines[i].strip().isdigit())


def _time_ms(text: str) -> int:
    ms = clock_to_ms(text.removeprefix("-")) or 0
    return -ms if text.startswith("-") else ms


def _cue(start_ms: int, end_ms: int, body: str) -> Cue:
    return Cue(
        start_ms=start_ms,
        duration_ms=end_ms - start_ms,
        text=clean_text(body),
        word_starts_ms=_word_starts_ms(start_ms, body),
    )


def _word_starts_ms(start_ms: int, body: str) -> tuple[int, ...]:
    """Return when the words of a rolling cue's new line start; () where words are not timed one by one."""
    if not _WORD_TIME.search(body):
        return ()
    first, *stamped = _WORD_TIME.split(body)  # text, time, text, time, text ...
    words = [(start_ms, first.rpartition("\n")[2])]  # the lines above are carried over from the cue before
    words += [(clock_to_ms(time) or 0, text) for time, text in zip(stamped[::2], stamped[1::2], strict=True)]
    spoken = [(time_ms, text) for time_ms, raw in words if not is_blank(text := clean_text(raw))]
    if any(len(text.split()) > 1 for _, text in spoken):
        return ()
    return tuple(sorted(time_ms for time_ms, _ in spoken))
