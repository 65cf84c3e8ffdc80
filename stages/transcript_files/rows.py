"""Turns rows of YouTube's own formats (json3, srv1, srv2, srv3, the API's list) into the cues that they mean.

Speech recognition fills a rolling window: text rows alternate with rows that append only a line break, and the player
shows a text until the window's next event, whatever its duration says. Sentence-wise recognition therefore writes a
placeholder of 3,000 ms although the sentence goes on; taken at its word, speech would count as ambience.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autorecap.stages.records import Cue
from autorecap.stages.transcript_files.cue_text import clean_text, is_blank, likely_shown_ms, num_words

PLACEHOLDER_MS = 3_000
MAX_SPOKEN_WORDS_PER_S = 4  # sustained: fast speech. A row with more did not end when its duration says
MAX_SENTENCE_WORDS = 80  # a row with more is no sentence, but a collapsed track
_WORDS = re.compile(r" ?[!-~]+(?:\0 ?[!-~]+)*").fullmatch  # segments of one English word each, as most are
MAX_WORD_WORDS = 4  # an unspaced segment of up to eight characters may be one word


@dataclass(slots=True)
class Row:
    """One event as the file states it: the texts of its segments, and when each comes after the start."""

    start_ms: int
    duration_ms: int | None
    texts: Sequence[str]
    offsets_ms: Sequence[int]
    appends: bool = False  # only moves the rolling window on


def to_cues(rows: Sequence[Row]) -> tuple[Cue, ...]:
    """Make one cue of each row, in order. Placeholder durations are replaced by the time until the next row."""
    is_rolling = any(row.appends for row in rows)
    starts_ms = sorted({row.start_ms for row in rows})
    return tuple(_to_cue(row, is_rolling, starts_ms) for row in rows)


def _to_cue(row: Row, is_rolling: bool, starts_ms: Sequence[int]) -> Cue:
    text = clean_text("".join(row.texts))
    words_ms = _word_starts_ms(row)
    duration_ms = row.duration_ms
    if duration_ms and duration_ms > 0 and _is_cut_short(duration_ms, row, text, words_ms, is_rolling):
        duration_ms = max(duration_ms, likely_shown_ms(row.start_ms, text, starts_ms))
    return Cue(start_ms=row.start_ms, duration_ms=duration_ms, text=text, word_starts_ms=words_ms)


def _is_cut_short(duration_ms: int, row: Row, text: str, words_ms: Sequence[int], is_rolling: bool) -> bool:
    """Return whether the words of a row go on after its duration."""
    if words_ms and words_ms[-1] >= row.start_ms + duration_ms:
        return True
    if not is_rolling and duration_ms != PLACEHOLDER_MS:
        return False
    words = num_words(text)
    if is_blank(text) or words > MAX_SENTENCE_WORDS:
        return False
    is_placeholder = duration_ms == PLACEHOLDER_MS
    is_crowded = words * 1_000 > MAX_SPOKEN_WORDS_PER_S * duration_ms
    return (is_crowded and (is_rolling or is_placeholder)) or (is_rolling and is_placeholder and len(words_ms) < 2)


def _word_starts_ms(row: Row) -> tuple[int, ...]:
    """Return when each word starts; () where words are not timed one by one: several in a segment, or no offsets."""
    texts = row.texts
    if len(texts) == 1 and " " in texts[0].strip():  # a line, as most segments without times are
        return ()
    start_ms = row.start_ms
    if _WORDS("\0".join(texts)):
        starts_ms = [start_ms + offset_ms if offset_ms > 0 else start_ms for offset_ms in row.offsets_ms]
    else:
        starts_ms = []
        for text, offset_ms in zip(texts, row.offsets_ms, strict=True):
            if is_blank(text):
                continue
            if len(text.split()) > 1 or num_words(text) > MAX_WORD_WORDS:
                return ()
            starts_ms.append(start_ms + max(offset_ms, 0))
    starts_ms.sort()
    is_timed = len(starts_ms) == 1 or starts_ms[:1] != starts_ms[-1:]
    return tuple(starts_ms) if is_timed else ()
