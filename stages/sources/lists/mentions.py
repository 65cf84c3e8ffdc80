"""What comes out of a list: videos, their clips, and what was damaged."""

from dataclasses import dataclass, field

import pyarrow as pa

CLIPS = pa.schema(
    [
        ("id", pa.string()),
        ("place", pa.int64()),  # which row of its list
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("caption", pa.string()),  # made by listening: it stays
        ("clap_score", pa.float64()),
        ("original_caption", pa.string()),
        ("tags", pa.list_(pa.string())),
    ]
)
MENTIONS = pa.schema([("id", pa.string()), ("place", pa.int64())])


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
