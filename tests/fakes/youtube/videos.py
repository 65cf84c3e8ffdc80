"""What the fake knows of its videos, and what can go wrong with each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MISHAPS = {
    # what the service says of the video
    "private": "only its owner may see it",
    "deleted": "it is gone",
    "terminated": "its uploader's account is gone",
    "age": "a sign-in has to prove one's age",
    "geo": "it is not shown in this country",
    "members": "members of a channel alone may see it",
    "live": "it is being broadcast",
    "upcoming": "it has been announced",
    "no_captions": "nobody transcribed it",
    "no_english": "its captions are in another language",
    "no_audio": "it has no audio format",
    "po_token": "its captions want a PO token",
    # what the service thinks of the egress
    "429": "too many requests",
    "429_retry_after": "too many requests; come back in a second",
    "captcha": "a page with a captcha in place of the video's",
    "bot": "sign in to confirm that you are no bot",
    "consent": "a page that asks for consent to cookies first",
    # what networks do
    "empty": "captions that are an empty answer",
    "truncated": "captions that end in the middle",
    "drip": "captions that come a byte at a time",
    "reset": "a connection that is reset",
    "wrong_length": "captions that are shorter than announced",
    "error_500": "a server error",
    "html": "a page of HTML in place of captions",
    # what befalls media
    "expired": "the address of its audio is refused with 403",
    "media_reset": "a connection that is reset in place of its audio",
    "media_short": "fewer bytes of its audio than were asked for",
    "media_whole": "all of its audio, whatever range was asked for",
    "media_elsewhere": "its audio lies at addresses that are not YouTube's",
}
"""Name and meaning. Each stands for ever, or for the first `FakeVideo.times` requests that meet it."""

OF_THE_EGRESS = ("429", "429_retry_after", "captcha", "bot")
"""Mishaps that say nothing of the video: in life another request, later or from elsewhere, passes."""

Cues = Sequence[tuple[int, int, str]]  # start and duration in ms, text
_SPEECH: Cues = [(0, 2_000, "hello and welcome"), (2_000, 3_000, "to the rain"), (17_000, 3_000, "that was it")]


@dataclass(kw_only=True)
class FakeVideo:
    """One video. Its gaps: whatever `cues` leave of `duration_ms`."""

    title: str = "Rain on a roof"
    description: str = "Recorded in one take."
    duration_ms: int = 20_000
    manual: dict[str, Cues] = field(default_factory=dict)  # language to cues; by default automatic ones alone
    auto: dict[str, Cues] = field(default_factory=lambda: {"en": _SPEECH})
    mishap: str = ""  # one of MISHAPS
    times: int | None = None  # how often it happens; None: always
    media: dict[str, Path] = field(default_factory=dict)  # itag to file: 140 m4a; 249, 250, 251 webm
    bodies: dict[tuple[str, str, bool], tuple[bytes, str]] = field(default_factory=dict, repr=False)
    """Captions, made once."""

    def __post_init__(self) -> None:
        if self.mishap and self.mishap not in MISHAPS:
            raise ValueError(f"mishap is {self.mishap!r}: one of {', '.join(MISHAPS)}")

    def happens(self, *mishaps: str) -> bool:
        """Whether one of these befalls the video now. Counts."""
        if self.mishap not in mishaps or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True
