"""The transcript that every parser returns, and the one error that it raises."""

from dataclasses import dataclass

from autorecap.stages.records import Cue


class TranscriptError(ValueError):
    """A file is not a transcript that can be trusted. The message says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The cues of one file, in the file's order, blank ones included."""

    cues: tuple[Cue, ...]
    format: str  # json3 | srv1 | srv2 | srv3 | ttml | vtt | srt | api
    is_auto: bool = False  # the content proves speech recognition; False proves nothing
