"""Text from outside, made fit to be shown: in a log, a ledger or a terminal."""

import re
import unicodedata

_SECRET = re.compile(r"(?<=//)[^/\s\"]*(?=@)|(?<=po_token=)[^;\"\s]*")


def redacted(text: str) -> str:
    """The text without the user and password of addresses in it, and without PO tokens."""
    return _SECRET.sub("***", text)


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line without control characters, cut to `limit` characters."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
