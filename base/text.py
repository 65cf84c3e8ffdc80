"""Makes text fit to be shown in a log, a ledger or a terminal."""

import re
import unicodedata

_SECRET = re.compile(r"(?<=//)[^/\s\"]*(?=@)|(?<=po_token=)[^;\"\s]*")


def redacted(text: str) -> str:
    """Return the text without the user and password of addresses in it, and without PO tokens."""
    return _SECRET.sub("***", text)


def clock(ms: int, *, digits: int = 3) -> str:
    """Return a time as H:MM:SS with so many digits of its fraction, the others cut."""
    return f"{duration(ms // 1000)}.{f'{ms % 1000:03d}'[:digits]}"


def duration(seconds: int) -> str:
    """Return a duration as H:MM:SS."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def printable(text: str, limit: int = 300) -> str:
    """Return `text` on one line without control characters, cut to `limit` characters."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
