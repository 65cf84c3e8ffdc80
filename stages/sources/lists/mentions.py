"""Content of a list: videos, their clips, and damaged rows."""

from dataclasses import dataclass, field

import pyarrow as pa

from autorecap.stages.records import CLIP_TYPE

MENTIONS = pa.schema([("id", pa.string()), ("place", pa.int64())])
"""Columns of the videos that a list names; `place` is the row of the list."""
CLIPS = pa.schema(
    [
        *MENTIONS,
        *(CLIP_TYPE.field(name) for name in ("start_ms", "end_ms")),
        *(CLIP_TYPE.field(name) for name in ("caption", "clap_score")),  # captions that a model made, which are kept
        *(CLIP_TYPE.field(name) for name in ("original_caption", "tags")),
    ]
)
"""Columns of the clips that a list states of its videos."""


@dataclass(frozen=True)
class Damaged:
    """A row, or a clip of one, that cannot be used."""

    line: int
    what: str
    text: str  # what stands there, printable


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Lowest values of the clips that are taken from a released set. None: any."""

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
    clips_left_out: dict[str, int] = field(default_factory=dict)  # by reason
    damaged: list[Damaged] = field(default_factory=list)
