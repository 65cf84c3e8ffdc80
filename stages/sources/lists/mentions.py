"""What comes out of a list: videos, their clips, and what was damaged."""

from dataclasses import dataclass, field

import pyarrow as pa

from autorecap.stages.records import CLIP_TYPE

MENTIONS = pa.schema([("id", pa.string()), ("place", pa.int64())])
"""The videos that a list names; `place` says which row of the list does."""
CLIPS = pa.schema(
    [
        *MENTIONS,
        *(CLIP_TYPE.field(name) for name in ("start_ms", "end_ms")),
        *(CLIP_TYPE.field(name) for name in ("caption", "clap_score")),  # of captions made by listening, which stay
        *(CLIP_TYPE.field(name) for name in ("original_caption", "tags")),
    ]
)
"""The clips that a list states of its videos."""


@dataclass(frozen=True)
class Damaged:
    """A row, or a clip of one, that cannot be used."""

    line: int
    what: str
    text: str  # what stands there, printable


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a clip of a released set must reach. None: everything is taken."""

    min_clap: float | None = None
    min_seconds: float | None = None


@dataclass
class Mentions:
    """A part of a list. num_rows = len(videos) + num_damaged + num_filtered."""

    videos: pa.Table  # MENTIONS, one row for each row of the list that names a video
    clips: pa.Table | None = None  # CLIPS, where they were asked for or the list is one of clips
    num_rows: int = 0
    num_damaged: int = 0
    num_filtered: int = 0
    clips_left_out: dict[str, int] = field(default_factory=dict)  # by why
    damaged: list[Damaged] = field(default_factory=list)
