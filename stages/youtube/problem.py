"""Problem is the exception for what cannot be had from YouTube.

It lies apart from `errors.py`, which imports two client libraries that a build from files never needs.
"""

from dataclasses import replace

from autorecap.base.text import printable, redacted
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Video


class Problem(Exception):
    """Something could not be had from YouTube.

    `not_before`: Unix time before which another try makes no sense, if known. `refused`: a request was sent, and
    refused because of its egress.
    """

    def __init__(self, reason: Reason, detail: str, *, not_before: float | None = None, refused: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = printable(redacted(detail), 300)
        self.not_before = not_before
        self.refused = refused


def ended(video: Video, problem: Problem, name: str = "") -> Video:
    """Return the video, ended for the reason that it, or the file of this name, could not be had."""
    detail = f"{name}: {problem.detail}" if name else problem.detail
    video = video.ended(problem.reason, detail, not_before=problem.not_before)
    return replace(video, refusals=video.refusals + problem.refused)
