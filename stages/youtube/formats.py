"""Which of a video's formats is fetched: the cheapest audio that is good enough."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stages.reasons import Reason
from stages.youtube.problem import Problem
from stages.youtube.session import is_web_address

_CONTAINERS = ("m4a", "webm", "mp4")


@dataclass(frozen=True)
class AudioFormat:
    """An audio format and where it lies."""

    itag: str
    url: str
    container: str
    kbps: float
    sample_rate_hz: int
    size: int | None  # bytes


def choose(info: Mapping[str, Any], min_kbps: float, sample_rate_hz: int, *, allow_local: bool) -> AudioFormat:
    """The format with the fewest kbit/s of those with `min_kbps` and the sample rate; if there is none, the best.

    `info`: yt-dlp's description. Of a video in several languages the original is taken. `allow_local`: addresses of
    this machine and its network, too. Raises Problem where there is no audio.
    """
    listed = [entry for entry in info.get("formats") or [] if isinstance(entry, dict) and _is_plain_audio(entry)]
    preferred = max((entry.get("language_preference") or -1 for entry in listed), default=-1)
    formats = [
        _format(entry)
        for entry in listed
        if (entry.get("language_preference") or -1) == preferred and _may_be_asked(entry["url"], allow_local)
    ]
    if not formats:
        raise Problem(Reason.NO_AUDIO, f"none of its {len(info.get('formats') or [])} formats is audio by itself")
    enough = [each for each in formats if each.kbps >= min_kbps and each.sample_rate_hz >= sample_rate_hz]
    if enough:
        return min(enough, key=lambda each: (each.kbps, each.itag))
    return max(formats, key=lambda each: (min(each.sample_rate_hz, sample_rate_hz), each.kbps, each.itag))


def _is_plain_audio(entry: Mapping[str, Any]) -> bool:
    return (
        entry.get("vcodec") == "none"
        and entry.get("acodec") not in (None, "none")
        and entry.get("ext") in _CONTAINERS
        and entry.get("protocol") in ("http", "https")
        and isinstance(entry.get("url"), str)
        and not entry.get("has_drm")
        and "drc" not in str(entry.get("format_id"))  # made louder evenly, which changes what the sound is
    )


def _may_be_asked(url: str, allow_local: bool) -> bool:
    if not is_web_address(url):
        return False
    host = urlsplit(url).hostname or ""
    try:
        is_local = not ipaddress.ip_address(host).is_global
    except ValueError:
        is_local = host == "localhost" or "." not in host
    return allow_local or not is_local


def _format(entry: Mapping[str, Any]) -> AudioFormat:
    return AudioFormat(
        itag=str(entry.get("format_id"))[:20],
        url=entry["url"],
        container="webm" if entry["ext"] == "webm" else "m4a",
        kbps=float(entry.get("abr") or entry.get("tbr") or 0),
        sample_rate_hz=int(entry.get("asr") or 0),
        size=entry.get("filesize") if isinstance(entry.get("filesize"), int) else None,
    )
