"""The transcripts stage: reads the cues of each video from the files beside it, or from YouTube."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autorecap.base.text import printable
from autorecap.stages.origin import TranscriptFrom
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Video
from autorecap.stages.transcript_files.choice import Track, by_preference, tracks_of, with_transcript
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcript_files.cue_text import is_blank
from autorecap.stages.transcript_files.info import Info, parse_info
from autorecap.stages.transcript_files.read import read_bytes, read_transcript
from autorecap.stages.transcript_files.transcript import TranscriptError

if TYPE_CHECKING:
    from autorecap.stages.youtube.client import Youtube


class Transcripts:
    """Gives every video the cues of its best transcript: from the files beside it, or from YouTube.

    Videos that come with their clips, or from segments that were stored before, pass by.
    """

    name = "transcripts"

    def __init__(self, config: TranscriptsConfig, youtube: "Youtube | None" = None) -> None:
        """`youtube`: client that fetches the transcripts of online videos; None where all videos are files."""
        self.config, self.youtube = config, youtube

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        if self.youtube is None:
            return [self._transcribe(video) for video in videos]
        return self.youtube.map(self._transcribe, videos)

    def _transcribe(self, video: Video) -> Video:
        source = video.origin.transcript
        if source is TranscriptFrom.NOBODY or video.clips:
            return video
        if source is TranscriptFrom.FILES:
            return self._read(video)
        assert self.youtube is not None, "a video of YouTube, and nobody to ask for it"
        return self.youtube.with_subtitles(video)

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
        """Return the video with the cues of the first track that can be read and has text."""
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
                return with_transcript(video, track, transcript)
        if errors:
            return video.ended(Reason.TRANSCRIPT_UNREADABLE, "; ".join(errors))
        return video.ended(Reason.EMPTY_TRANSCRIPT, ", ".join(_name(track.path) for track in tracks))

    def _languages_found(self, tracks: Sequence[Track]) -> str:
        found = sorted({f"{t.language} (machine translated)" if t.is_translated else t.language for t in tracks})
        return f"found {', '.join(found)}; accepted {', '.join(self.config.languages)}"


def _with_info(video: Video) -> tuple[Video, Info]:
    """Return the video with what its info.json adds; damaged parts add nothing. Raises OSError."""
    if not video.info:
        return video, Info()
    data = read_bytes(video.info)
    info = parse_info(data)
    video = replace(
        video,
        title=info.title or video.title,
        # The probe stage knows the duration to the millisecond.
        duration_ms=info.duration_ms if video.duration_ms is None else video.duration_ms,
        bytes_read=video.bytes_read + len(data),
    )
    return video, info


def _missing(video: Video, path: str, error: OSError) -> Video:
    """End a video one of whose files cannot be read now.

    Neither the next track nor a video without a title would do: a moment's failure must not change the dataset.
    """
    return video.ended(Reason.TRANSCRIPT_MISSING, f"{_name(path)}: {error}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]
