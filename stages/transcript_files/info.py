"""The info.json that yt-dlp writes about a video. It is not trusted: a field that makes no sense counts as absent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autorecap.stages.records import MAX_VIDEO_MS
from autorecap.stages.transcript_files.read import load_json
from autorecap.stages.transcript_files.times import to_ms
from autorecap.stages.transcript_files.transcript import TranscriptError

MAX_TITLE_CHARS = 500

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Info:
    """The fields of an info.json that are used; all are empty where it is missing or broken."""

    title: str = ""
    duration_ms: int | None = None  # yt-dlp's is whole seconds, up to one off
    manual: frozenset[str] = frozenset()  # languages of uploaded subtitles
    automatic: frozenset[str] = frozenset()  # of automatic captions, machine translations included
    translated: frozenset[str] = field(default=frozenset())  # of those, the ones asked for with tlang


def parse_info(data: bytes) -> Info:
    """Read the fields of an info.json that are used. Never raises."""
    try:
        document = load_json(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, TranscriptError):
        return Info()
    if not isinstance(document, dict):
        return Info()
    automatic = mapping(document.get("automatic_captions"))
    return Info(
        title=title_of(document),
        duration_ms=possible_duration_ms(to_ms(document.get("duration"), unit_ms=1000)),
        manual=frozenset(mapping(document.get("subtitles"))),
        automatic=frozenset(automatic),
        translated=frozenset(language for language, formats in automatic.items() if _is_translation(formats)),
    )


def clean(value: Any, max_chars: int) -> str:
    """Return a text from outside, cut and without control characters; "" where it is no text."""
    return _CONTROL.sub(" ", value[:max_chars]).strip() if isinstance(value, str) else ""


def title_of(fields: Mapping[str, Any]) -> str:
    """Return the title among the fields that describe a video, on one line."""
    return clean(fields.get("title"), MAX_TITLE_CHARS).replace("\n", " ")


def possible_duration_ms(duration_ms: int | None) -> int | None:
    """Return the duration of a video, or None where no video is that long."""
    return duration_ms if duration_ms and 0 < duration_ms <= MAX_VIDEO_MS else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object from outside; an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def _is_translation(formats: Any) -> bool:
    urls = [entry.get("url") for entry in formats if isinstance(entry, dict)] if isinstance(formats, list) else []
    return any(isinstance(url, str) and re.search(r"[?&]tlang=", url) for url in urls)
