"""Reads title, description, duration and subtitle tracks of a video out of the answer of YouTube's player.

The transcript client asks the player anyway, so this costs no request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autorecap.stages.records import Video
from autorecap.stages.transcript_files.info import clean, mapping, possible_duration_ms, title_of

MAX_DESCRIPTION_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class CaptionTrack:
    """One track of captions."""

    url: str
    language: str
    is_auto: bool
    is_translatable: bool


@dataclass(frozen=True, slots=True)
class VideoMeta:
    """The fields of the answer that are used. It is not trusted: a field that makes no sense counts as absent."""

    title: str = ""
    description: str = ""
    duration_ms: int | None = None
    is_live: bool = False  # it is being broadcast now
    tracks: tuple[CaptionTrack, ...] = ()


def described(video: Video, meta: VideoMeta) -> Video:
    """Return the video with what else is known of it."""
    return replace(
        video,
        title=meta.title or video.title,
        description=meta.description or video.description,
        duration_ms=meta.duration_ms if video.duration_ms is None else video.duration_ms,
    )


def parse_player(answer: Any) -> VideoMeta:
    """Read title, description, duration, live status and tracks of captions. Never raises."""
    details = mapping(mapping(answer).get("videoDetails"))
    captions = mapping(mapping(mapping(answer).get("captions")).get("playerCaptionsTracklistRenderer"))
    tracks = captions.get("captionTracks")
    return VideoMeta(
        title=title_of(details),
        description=clean(details.get("shortDescription"), MAX_DESCRIPTION_CHARS),
        duration_ms=_duration_ms(answer, details),
        is_live=details.get("isLive") is True,
        tracks=tuple(_tracks(tracks if isinstance(tracks, list) else [])),
    )


def _duration_ms(answer: Any, details: Mapping[str, Any]) -> int | None:
    """Return the duration of the audio formats, which is exact; else one in whole seconds, up to one off."""
    formats = mapping(mapping(answer).get("streamingData")).get("adaptiveFormats")
    exact = [_integer(mapping(each).get("approxDurationMs")) for each in formats] if isinstance(formats, list) else []
    duration_ms = max((ms for ms in exact if ms), default=None) or 1000 * (_integer(details.get("lengthSeconds")) or 0)
    return possible_duration_ms(duration_ms)


def _tracks(tracks: list[Any]) -> list[CaptionTrack]:
    return [
        CaptionTrack(
            url=track["baseUrl"],
            language=track["languageCode"],
            is_auto=track.get("kind") == "asr",
            is_translatable=track.get("isTranslatable") is True,
        )
        for track in map(mapping, tracks)
        if isinstance(track.get("baseUrl"), str) and isinstance(track.get("languageCode"), str)
    ]


def _integer(value: Any) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 16 else None
