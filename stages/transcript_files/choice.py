"""The choice among the transcripts beside a video (paper, A.2: the English one, else the automatic one)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autorecap.stages.records import Video
from autorecap.stages.transcript_files.info import Info
from autorecap.stages.transcript_files.transcript import Transcript

# The most exact first: word times, then milliseconds, then what tools have converted.
FORMATS = ("json3", "srv3", "vtt", "srv1", "ttml", "srt", "json", "srv2")

_NO_SPEECH = frozenset({"live_chat", "rechat", "danmaku"})  # written by viewers
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9_-]{1,40})?|live_chat|rechat|danmaku|und")
_KIND_ORDER = ("manual", "unknown", "auto")
_VARIANT_ORDER = ("orig", "", "US", "GB")  # "en-orig" is what was recognised, and "en" is a copy of it


@dataclass(frozen=True, slots=True)
class Track:
    """One sidecar file, and what is known about it before it is read."""

    path: str
    language: str  # as yt-dlp writes it; empty where the file name has none
    kind: str  # manual | auto | unknown
    is_translated: bool


def tracks_of(sidecars: Sequence[str], stem: str, info: Info) -> list[Track]:
    """Return the transcripts among `sidecars`, files named `<stem>[.<language>].<format>`, without chat logs."""
    tracks = [_track(path, stem, info) for path in sidecars]
    return [track for track in tracks if track.language not in _NO_SPEECH]


def by_preference(tracks: Sequence[Track], languages: Sequence[str], *, allow_translated: bool) -> list[Track]:
    """Return the accepted tracks, the best first; the formats of one track stand side by side.

    They are sorted by language in the order of `languages` ("en" also accepts "en-US"), then manual before automatic,
    then the plain language before its variants, then by format. Machine translations are left out, or come last.
    """
    ranked = []
    for track in tracks:
        language_rank = _language_rank(track.language, languages)
        if language_rank is None or (track.is_translated and not allow_translated):
            continue
        rank = (
            track.is_translated,
            language_rank,
            _KIND_ORDER.index(track.kind),
            _variant_rank(track.language),
            track.language,
            _format_rank(track.path),
            track.path,
        )
        ranked.append((rank, track))
    return [track for _, track in sorted(ranked, key=lambda pair: pair[0])]


def _track(path: str, stem: str, info: Info) -> Track:
    language = _language_of(path, stem)
    if language in info.manual:
        kind = "manual"
    elif language in info.automatic:
        kind = "auto"
    else:
        kind = "unknown"
    return Track(path, language, kind, kind != "manual" and _is_translated(language, info))


def _language_of(path: str, stem: str) -> str:
    name = re.split(r"[/\\]", path)[-1]
    middle = name.rpartition(".")[0]
    if middle == stem:
        return ""
    # A stem may hold dots itself; one that is not the file's leaves only the last part to judge.
    language = middle.removeprefix(f"{stem}.") if middle.startswith(f"{stem}.") else middle.rpartition(".")[2]
    return language if _LANGUAGE.fullmatch(language) else ""


def _is_translated(language: str, info: Info) -> bool:
    """Judge by the URL where the info.json has it, otherwise by the languages that yt-dlp lists beside this one."""
    if language not in info.automatic:
        return False
    if language in info.translated:
        return True
    base, _, variant = language.partition("-")
    if re.fullmatch(r"[a-z]{2,3}", variant) and variant != base:
        return True  # "en-ja": English, from the Japanese subtitles. Regions are in capitals
    spoken = {name.removesuffix("-orig") for name in info.automatic if name.endswith("-orig")}
    return bool(spoken) and base not in {name.partition("-")[0] for name in spoken}


def _language_rank(language: str, languages: Sequence[str]) -> int | None:
    """Return the position of the accepted language that matches. A file that names none counts as the first."""
    if language in ("", "und"):
        return 0
    normal = language.replace("_", "-").lower()
    for rank, accepted in enumerate(languages):
        if normal == accepted.lower() or normal.startswith(f"{accepted.lower()}-"):
            return rank
    return None


def _variant_rank(language: str) -> int:
    variant = language.replace("_", "-").partition("-")[2] if language else "unnamed"
    return _VARIANT_ORDER.index(variant) if variant in _VARIANT_ORDER else len(_VARIANT_ORDER)


def _format_rank(path: str) -> int:
    extension = path.rpartition(".")[2].lower()
    return FORMATS.index(extension) if extension in FORMATS else len(FORMATS)


def with_transcript(video: Video, track: Track, transcript: Transcript) -> Video:
    """Return the video with the cues of the track that was chosen."""
    return replace(
        video,
        cues=transcript.cues,
        num_cues=len(transcript.cues),
        transcript_kind="auto" if transcript.is_auto else track.kind,
        transcript_language=track.language,
    )
