"""Text from outside, made fit to be shown: in a log, a ledger or a terminal."""

import unicodedata


def printable(text: str, limit: int = 300) -> str:
    """`text` on one line without control characters, cut to `limit` characters."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
