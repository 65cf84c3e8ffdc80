"""Chooses among a video's formats: the cheapest audio that is good enough."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import may_be_asked

_CONTAINERS = ("m4a", "webm", "mp4")


@dataclass(frozen=True)
class AudioFormat:
    """An audio format, and its address."""

    itag: str
    url: str
    container: str
    kbps: float
    sample_rate_hz: int
    size: int | None  # bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """For requests to the address, as the client sends them that was given it."""


def choose(info: Mapping[str, Any], min_kbps: float, sample_rate_hz: int, base_url: str) -> AudioFormat:
    """Return the format with the fewest kbit/s of those with `min_kbps` and the sample rate, else the best.

    `info`: yt-dlp's description. Of a video in several languages the original is taken. Where there is no audio by
    itself, the smallest file of picture and sound has to do. Raises Problem where there is no audio.
    """
    listed = [entry for entry in info.get("formats") or [] if isinstance(entry, dict)]
    usable = [entry for entry in listed if _is_file_with_audio(entry) and may_be_asked(entry["url"], base_url)]
    preferred = max((entry.get("language_preference") or -1 for entry in usable), default=-1)
    original = [entry for entry in usable if (entry.get("language_preference") or -1) == preferred]
    formats = [_format(entry) for entry in original if entry.get("vcodec") == "none"]
    if not formats and original:
        return min(map(_format, original), key=lambda each: (each.size or float("inf"), each.kbps, each.itag))
    if not formats:
        has_audio = any(entry.get("acodec") not in (None, "none") for entry in listed)
        # Where there is audio, it comes only as streams or at strange addresses.
        reason = Reason.BAD_ANSWER if has_audio else Reason.NO_AUDIO
        raise Problem(reason, f"none of its {len(listed)} formats is a file with audio")
    enough = [each for each in formats if each.kbps >= min_kbps and each.sample_rate_hz >= sample_rate_hz]
    if enough:
        return min(enough, key=lambda each: (each.kbps, each.itag))
    return max(formats, key=lambda each: (min(each.sample_rate_hz, sample_rate_hz), each.kbps, each.itag))


def _is_file_with_audio(entry: Mapping[str, Any]) -> bool:
    return (
        entry.get("acodec") not in (None, "none")
        and entry.get("ext") in _CONTAINERS
        and entry.get("protocol") in ("http", "https")
        and isinstance(entry.get("url"), str)
        and not entry.get("has_drm")
        and "drc" not in str(entry.get("format_id"))  # made louder evenly, which changes what the sound is
    )


def _format(entry: Mapping[str, Any]) -> AudioFormat:
    return AudioFormat(
        itag=str(entry.get("format_id"))[:20],
        url=entry["url"],
        container="webm" if entry["ext"] == "webm" else "m4a",
        kbps=float(entry.get("tbr") or entry.get("abr") or 0),
        sample_rate_hz=int(entry.get("asr") or 0),
        size=entry.get("filesize") if isinstance(entry.get("filesize"), int) else None,
        headers={name: str(value) for name, value in (entry.get("http_headers") or {}).items()},
    )
