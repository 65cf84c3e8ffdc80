"""Text of cues: markup and entities removed, blanks recognised, words counted, and for how long it is shown."""

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

SPOKEN_WORD_MS = 400  # at an ordinary pace

# Only tags that subtitle formats define: an author's "<whispering>" is text on the screen, so it stays.
# `[^<>]` and not `[^>]`: a row of a million "<" must not be scanned from each of them to the end.
_TAG = re.compile(
    r"</?(?:b|i|u|s|c|v|p|lang|ruby|rt|rp|font|span|br|em|strong|mark|small|del|ins|sub|sup)(?:[.\s/][^<>]*)?>"
    r"|<[0-9:.]{5,16}>",  # the time of a word
    re.IGNORECASE,
)
_SRT_OVERRIDE = re.compile(r"\{\\[^{}]*\}")  # {\an8}
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # JSON can hold half a character; Arrow cannot

# Scripts that write without spaces between words: Thai, Lao, Khmer, kana, Han.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_UNSPACED_CHARS_PER_WORD = 2

_INVISIBLE_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers: letters or symbols without ink


def clean_text(raw: str) -> str:
    """Return `raw` as a viewer reads it. Entities are resolved twice: YouTube's XML escapes some of them twice."""
    text = raw
    for _ in range(2):
        if "&" in text:
            text = _unescape(text)
    if "<" in text:
        text = _TAG.sub("", text)
    if "{" in text:
        text = _SRT_OVERRIDE.sub("", text)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # "&#" and more digits than Python turns into an integer
        return text


def is_blank(text: str) -> bool:
    """Return whether a cue shows nothing: spaces, line ends, U+200B, U+FEFF and their like."""
    if text and "!" <= text[0] <= "~":  # as nearly all are
        return False
    shown = text.strip()
    return not shown or all(map(_is_invisible, shown))


def _is_invisible(char: str) -> bool:
    return char.isspace() or char in _INVISIBLE_LETTERS or unicodedata.category(char) in ("Cf", "Cc", "Mn")


def num_words(text: str) -> int:
    """Count the words of a text; in a script without spaces, two characters count as one word."""
    unspaced = 0 if text.isascii() else len(_UNSPACED.findall(text)) // _UNSPACED_CHARS_PER_WORD
    return max(len(text.split()), unspaced)


def likely_shown_ms(start_ms: int, text: str, starts_ms: Sequence[int]) -> int:
    """Return for how long a cue is shown that does not say: until something else is, within the bounds of one subtitle.

    `starts_ms`: of all cues, sorted. After the last of them nothing says more than the words do.
    """
    later = bisect_right(starts_ms, start_ms)
    if later < len(starts_ms):
        return min(starts_ms[later] - start_ms, _longest_ms(text))
    return SPOKEN_WORD_MS * num_words(text)


def _longest_ms(text: str) -> int:
    """Return how long a cue of unknown length can last at most: 10 s, or a second for each of its words.

    Ten seconds is more than subtitles stay by the usual guidelines (seven); the slowest speech has a word a second.
    """
    return max(10_000, 1_000 * num_words(text))
