"""The record that travels through the pipeline: one `Video`, from the plan to the ledger.

Stages take videos and return the same videos, richer. A list of videos goes to another process as an Arrow table
(`to_table`) and back (`from_table`). Times are integer milliseconds everywhere.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import pyarrow as pa

from autorecap.base.columns import NOT_A_COLUMN, Int32, columns_of
from autorecap.base.text import printable
from autorecap.stages.origin import Origin
from autorecap.stages.reasons import Reason, Status

Span = tuple[int, int]
"""A part of a video: [start_ms, end_ms)."""

MAX_VIDEO_MS = 7 * 24 * 3_600_000
"""A week. A longer video is a mistake, and would be cut into a million clips; a larger time is the time of day."""
TO_THE_END = -1
"""The value of `Clip.end_ms` in a plan for a whole file, whose length is known once its header has been read."""

_MAX_NAMED_KEYWORDS = 5  # in the detail of a video whose clips are all dropped
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def safe_video_id(name: str, num_hex: int = 8) -> str:
    """Return `name` where it can be a key and a file name, else `<slug>-<num_hex hex digits of sha256(name)>`.

    The id does not depend on the folder, so a dataset does not depend on where its videos were mounted. num_hex: up to
    15.
    """
    if _SAFE_ID.fullmatch(name):
        return name
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:48] or "video"
    return f"{slug}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:num_hex]}"


class Verdict(StrEnum):
    """What becomes of a clip."""

    PENDING = ""
    KEPT = "kept"
    SILENT = "silent"  # below captions.silence_dbfs: never captioned
    KEYWORD = "keyword"  # its caption names speech or music
    PAST_END = "past_end"  # the audio ends before the clip does
    LEFT_OUT = "left_out"  # beyond media.max_clip_s_per_video
    LOW_SCORE = "low_score"  # below scores.min_score


class Cue(NamedTuple):
    """One timed event of a transcript, as the file states it. A blank text is an event too: it ends a rolling row."""

    # A tuple and no dataclass: there are hundreds to a video, and a frozen dataclass takes four times as long to make.

    start_ms: int
    duration_ms: int | None  # None where the file does not say
    text: str  # markup removed, entities resolved
    word_starts_ms: tuple[int, ...] = ()  # absolute, where the format times words


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A span of a video's audio and everything known about it."""

    start_ms: int
    end_ms: int
    audio: bytes | None = None  # mono, 16 bit: PCM little-endian until the judge stages end, then FLAC
    sample_rate_hz: Int32 = 0
    num_samples: int = 0
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    frame: bytes | None = None  # the picture at the middle, as JPEG, on its way to be captioned
    video_caption: str = ""  # a caption of the picture
    caption: str = ""
    original_caption: str = ""  # what the source says of the clip; several captions stand on lines of their own
    tags: tuple[str, ...] = ()  # labels, categories and tags of the source
    clap_audio: Annotated[bytes | None, NOT_A_COLUMN] = None  # CLAP's vector of the audio, float32, to be scored with
    clap_score: float | None = None  # similarity of audio and caption, -1 to 1; None where not computed
    speech_probability: float | None = None  # None where not computed
    verdict: Verdict = Verdict.PENDING
    keyword: str = ""  # what the filter matched, or why else it dropped the clip

    @property
    def duration_ms(self) -> int:
        return self.end_ms - self.start_ms

    def dropped(self, verdict: Verdict, keyword: str = "") -> "Clip":
        """Return the clip with its verdict and without its audio, since a dropped clip is not carried on."""
        return replace(self.emptied(), verdict=verdict, keyword=keyword)

    def emptied(self) -> "Clip":
        """Return the clip without what stages only work on: audio, picture, vector of CLAP."""
        return replace(self, audio=None, frame=None, clap_audio=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One row of the plan, to which every stage adds something."""

    row: int  # position in the plan
    video_id: str  # [A-Za-z0-9_-]{1,64}
    original_name: str = ""  # what the source calls it
    source: str = ""  # which list or folder named it
    media: str = ""  # path or URL of the media file
    given: bool = False  # the source has brought the clips: no transcript is wanted and no gap looked for
    info: str = ""  # path or URL of yt-dlp's info.json
    sidecars: tuple[str, ...] = ()  # paths or URLs of the transcript files
    title: str = ""
    description: str = ""  # what its uploader says of it, cut
    duration_ms: int | None = None
    transcript_kind: str = ""  # manual | auto | unknown
    transcript_language: str = ""
    cues: tuple[Cue, ...] = ()
    num_cues: int = 0
    num_gaps: int = 0
    gap_ms: int = 0  # all gaps together
    num_clips: int = 0  # cut from the gaps
    clips: tuple[Clip, ...] = ()
    status: Status = Status.OK
    reason: str = ""  # code of a Reason; empty while ok
    detail: str = ""  # what was found, for people: names the file or the field
    attempt: Int32 = 0  # how often it was tried before
    not_before: float | None = None  # Unix time before which another try makes no sense, where that is known
    refusals: Int32 = 0  # requests for this video refused in this run because of the egress (429, captcha)
    bytes_read: int = 0
    bytes_saved: int = 0  # of the media that was fetched in parts
    seconds: Mapping[str, float] = field(default_factory=dict)  # per stage

    @property
    def origin(self) -> Origin:
        """Where it comes from: who has its transcript, its audio, its clips."""
        return Origin.of(self.media, given=self.given)

    @property
    def is_ok(self) -> bool:
        return self.status is Status.OK

    def ended(self, reason: Reason, detail: str = "", *, not_before: float | None = None) -> "Video":
        """Return the video with its final status. Its clips stay, without audio; `detail` may come from outside."""
        return replace(
            self,
            status=reason.status,
            reason=reason.code,
            detail=printable(detail, 500),
            not_before=not_before,
            clips=tuple(clip.emptied() for clip in self.clips),
            cues=(),
        )

    def ended_if_none_kept(self) -> "Video":
        """Return the video: ended, with the verdicts of its clips, where none of them is kept."""
        if any(clip.verdict is Verdict.KEPT for clip in self.clips):
            return self
        return self.ended(Reason.ALL_CLIPS_FILTERED, _tally(self.clips))

    def map_clips(self, change: Callable[[Clip], Clip]) -> "Video":
        """Return the video with `change` applied to every clip that no stage has dropped."""
        return replace(
            self, clips=tuple(change(c) if c.verdict in (Verdict.PENDING, Verdict.KEPT) else c for c in self.clips)
        )


CLIP_TYPE = pa.struct(columns_of(Clip))
VIDEO_SCHEMA = pa.schema(columns_of(Video))


def _tally(clips: Sequence[Clip]) -> str:
    """Return the verdicts of clips in words, such as "3 clips: 2 keyword (speaking, music), 1 silent"."""
    parts = []
    for verdict, num in Counter(clip.verdict for clip in clips).most_common():
        named = Counter(clip.keyword for clip in clips if clip.verdict is verdict and clip.keyword)
        words = ", ".join(word for word, _ in named.most_common(_MAX_NAMED_KEYWORDS))
        parts.append(f"{num} {verdict.value}" + (f" ({words})" if words else ""))
    return f"{len(clips)} clip{'' if len(clips) == 1 else 's'}: {', '.join(parts)}".removesuffix(": ")


def _plain(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record)}


def to_table(videos: Iterable[Video]) -> pa.Table:
    """Return videos as an Arrow table of `VIDEO_SCHEMA`. Audio is `large_binary`; `Clip.clap_audio` is left out."""
    rows = []
    for video in videos:
        row = _plain(video)
        row["clips"] = [_plain(clip) for clip in video.clips]
        row["cues"] = [cue._asdict() for cue in video.cues]
        row["seconds"] = list(video.seconds.items())
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=VIDEO_SCHEMA)


def from_table(table: pa.Table) -> list[Video]:
    """Return the videos of a table made by `to_table`, or of one with only some of its columns (a plan)."""
    videos = []
    for row in map(_stated, table.to_pylist()):
        row["status"] = Status(row.get("status") or Status.OK)
        row["sidecars"] = tuple(row.get("sidecars") or ())
        row["cues"] = tuple(
            Cue(**cue | {"word_starts_ms": tuple(cue["word_starts_ms"] or ())}) for cue in row.get("cues") or ()
        )
        row["clips"] = tuple(_clip(_stated(clip)) for clip in row.get("clips") or ())
        row["seconds"] = dict(row.get("seconds") or ())
        videos.append(Video(**row))
    return videos


def _clip(fields: dict[str, Any]) -> Clip:
    return Clip(
        **fields | {"verdict": Verdict(fields.get("verdict") or ""), "tags": tuple(fields.get("tags") or ())},
    )


def _stated(fields: dict[str, Any]) -> dict[str, Any]:
    """Drop nulls, so that what an older file does not say gets the default of the record."""
    return {name: value for name, value in fields.items() if value is not None}
