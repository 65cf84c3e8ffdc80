"""Times of transcripts, converted to integer milliseconds without a float on the way."""

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

MAX_MS = 10**15  # 31,700 years: beyond it a number is no time at all (an epoch time in ms is 1.7e12)

# A bounded number of digits, and no exponent: Decimal("1e999999999") is cheap, the integer behind it is not.
_NUMBER = re.compile(r"[+-]?\d{1,18}(?:\.\d{0,30})?|[+-]?\.\d{1,30}", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?", re.ASCII)


def to_ms(value: Any, *, unit_ms: int) -> int | None:
    """Convert a number, or the text of one, to milliseconds; half a millisecond rounds up. None where it is no time.

    `unit_ms`: 1 where the format counts milliseconds, 1,000 for seconds.
    """
    if type(value) is int:  # nearly all of them
        ms = value * unit_ms
        return ms if -MAX_MS <= value <= MAX_MS and -MAX_MS <= ms <= MAX_MS else None
    if isinstance(value, str):
        if len(value) < 13 and value.isascii() and value.isdigit():
            return int(value) * unit_ms
        value = Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if not number.is_finite() or not -MAX_MS <= number <= MAX_MS:  # abs() would round, and overflow
        return None
    ms = int((number * unit_ms).to_integral_value(ROUND_HALF_UP))
    return ms if abs(ms) <= MAX_MS else None


def clock_to_ms(text: str) -> int | None:
    """Convert `[H:]MM:SS[.fraction]`, comma or point, to milliseconds. None where the text is no such time."""
    match = _CLOCK.fullmatch(text.strip())
    if not match:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole_s = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole_s * 1000 + int((fraction or "0")[:3].ljust(3, "0"))
