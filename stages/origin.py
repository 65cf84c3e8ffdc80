"""Says where a video comes from, by three answers that stages ask for: whose transcript, whose audio, whose clips?

It follows from two columns of the plan, `media` and `given`, and is stored nowhere else. A new kind of source is a new
answer here, and what gives it.
"""

from dataclasses import dataclass
from enum import Enum

WATCH_URL = "https://www.youtube.com/watch?v="
"""How `media` begins where a video is on YouTube; its id follows."""


class TranscriptFrom(Enum):
    """Who has the transcript of a video."""

    NOBODY = "nobody"  # none is wanted, as the clips are known
    FILES = "files"  # those that lie beside the media file
    YOUTUBE = "youtube"


class AudioFrom(Enum):
    """Who has the audio of a video."""

    FILE = "file"  # the one that `media` names, local or behind a URL
    YOUTUBE = "youtube"


class ClipsFrom(Enum):
    """Who says what the clips of a video are, and so which rules hold for them."""

    GAPS = "gaps"  # of the transcript: clips are cut, joined where they sound the same, filtered by keywords
    SOURCE = "source"  # released sets, audio sets, lists with times: their clips stay as they are, however short


@dataclass(frozen=True)
class Origin:
    """Where a video comes from."""

    transcript: TranscriptFrom
    audio: AudioFrom
    clips: ClipsFrom

    @classmethod
    def of(cls, media: str, *, given: bool) -> "Origin":
        """Return the origin that two columns of a plan stand for. `given`: whether the source has brought the clips."""
        return _OF_COLUMNS[media.startswith(WATCH_URL), given]


_OF_COLUMNS = {
    (False, False): Origin(TranscriptFrom.FILES, AudioFrom.FILE, ClipsFrom.GAPS),
    (False, True): Origin(TranscriptFrom.NOBODY, AudioFrom.FILE, ClipsFrom.SOURCE),
    (True, False): Origin(TranscriptFrom.YOUTUBE, AudioFrom.YOUTUBE, ClipsFrom.GAPS),
    (True, True): Origin(TranscriptFrom.NOBODY, AudioFrom.YOUTUBE, ClipsFrom.SOURCE),
}
