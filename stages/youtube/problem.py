"""Why something could not be had from YouTube."""

from stages.reasons import Reason
from stages.text import printable, redacted


class Problem(Exception):
    """Why something could not be had. `not_before`: Unix time before which another try makes no sense, if known."""

    def __init__(self, reason: Reason, detail: str, *, not_before: float | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = printable(redacted(detail), 300)
        self.not_before = not_before
