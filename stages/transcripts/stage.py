"""The transcripts stage: from the files beside a video to its cues."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.reasons import Reason
from stages.records import Video
from stages.settings import check, setting
from stages.text import printable
from stages.transcripts.choice import Track, by_preference, tracks_of
from stages.transcripts.cue_text import is_blank
from stages.transcripts.info import Info, parse_info
from stages.transcripts.read import read_bytes, read_transcript
from stages.transcripts.transcript import Transcript, TranscriptError


@dataclass(frozen=True, kw_only=True)
class TranscriptsConfig:
    """Which transcripts count."""

    languages: tuple[str, ...] = setting(
        ("en",),
        "Accepted languages, the preferred first; 'en' also accepts 'en-US'. English, as in the paper (A.2).",
        results=True,
    )
    allow_machine_translated: bool = setting(
        False,
        "Accept automatic captions that were translated into an accepted language. Their times hold, but speech "
        "recognition of a rarer language misses more speech.",
        results=True,
    )

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.languages, tuple) and all(isinstance(name, str) and name for name in self.languages)
        check(
            is_tuple and bool(self.languages),
            f"transcripts.languages is {self.languages!r}; name at least one language, as in [en]",
        )


class Transcripts:
    """Reads the info.json and the best transcript beside each video. Videos that come with their clips pass by."""

    name = "transcripts"

    def __init__(self, config: TranscriptsConfig) -> None:
        self.config = config

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [video if video.given else self._read(video) for video in videos]

    def _read(self, video: Video) -> Video:
        try:
            video, info = _with_info(video)
        except OSError as error:
            return _missing(video, video.info, error)
        stem = Path(video.media).stem or video.original_name
        tracks = tracks_of(video.sidecars, stem, info)
        if not tracks:
            return video.ended(Reason.NO_TRANSCRIPT)
        accepted = by_preference(tracks, self.config.languages, allow_translated=self.config.allow_machine_translated)
        if not accepted:
            return video.ended(Reason.NO_TRANSCRIPT_IN_LANGUAGE, self._languages_found(tracks))
        return self._first_readable(video, accepted)

    def _first_readable(self, video: Video, tracks: Sequence[Track]) -> Video:
        """The video with the cues of the first track that can be read and has text."""
        errors = []
        for track in tracks:
            name = printable(_name(track.path))
            try:
                data = read_bytes(track.path)
            except OSError as error:
                return _missing(video, track.path, error)
            video = replace(video, bytes_read=video.bytes_read + len(data))
            try:
                transcript = read_transcript(data, name)
            except TranscriptError as error:
                errors.append(str(error))
                continue
            if not all(is_blank(cue.text) for cue in transcript.cues):
                return _with_transcript(video, track, transcript)
        if errors:
            return video.ended(Reason.TRANSCRIPT_UNREADABLE, "; ".join(errors))
        return video.ended(Reason.EMPTY_TRANSCRIPT, ", ".join(_name(track.path) for track in tracks))

    def _languages_found(self, tracks: Sequence[Track]) -> str:
        found = sorted({f"{t.language} (machine translated)" if t.is_translated else t.language for t in tracks})
        return f"found {', '.join(found)}; accepted {', '.join(self.config.languages)}"


def _with_info(video: Video) -> tuple[Video, Info]:
    """The video with what its info.json adds; what is broken in it adds nothing. Raises OSError."""
    if not video.info:
        return video, Info()
    data = read_bytes(video.info)
    info = parse_info(data)
    video = replace(
        video,
        title=info.title or video.title,
        # A stage that has looked into the media file knows it to the millisecond.
        duration_ms=info.duration_ms if video.duration_ms is None else video.duration_ms,
        bytes_read=video.bytes_read + len(data),
    )
    return video, info


def _with_transcript(video: Video, track: Track, transcript: Transcript) -> Video:
    return replace(
        video,
        cues=transcript.cues,
        num_cues=len(transcript.cues),
        transcript_kind="auto" if transcript.is_auto else track.kind,
        transcript_language=track.language,
    )


def _missing(video: Video, path: str, error: OSError) -> Video:
    """Not the next track, and not a video without a title: a moment's failure must not change the dataset."""
    return video.ended(Reason.TRANSCRIPT_MISSING, f"{_name(path)}: {error}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
