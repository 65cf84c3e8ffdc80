"""Captioned audio sets, as their authors publish them: reads their lists and finds the audio file of each clip.

AudioCaps   CSV audiocap_id,youtube_id,start_time,caption; a clip is ten seconds of a video from start_time on. Rows
            of one clip stand for its several captions. Both versions. https://github.com/cdjkim/audiocaps
Clotho      CSV file_name,caption_1..caption_5. https://zenodo.org/records/3490684
WavCaps     JSON {"data": [{"id", "caption", "duration", ...}]}, the files named by id.
https://github.com/XinhaoMei/WavCaps
a folder    CSV file_name,caption[,title][,video_caption]; a file may have several rows, one per caption

`read_audio_list` recognises each by its columns; a list may be gzipped. Plain Python: no library is needed.
"""

import ast
import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autorecap.stages.sources.errors import SourceError
from autorecap.stages.sources.lists.formats import TEN_SECONDS_MS

_GZIP = b"\x1f\x8b"
EXTENSIONS = ("flac", "wav", "ogg", "opus", "m4a", "mp3", "webm", "mp4", "mkv", "aac", "aif", "aiff")
"""Extensions of audio files. Of two files of one clip, the one whose extension stands first here is read."""
_CSV_KINDS = (  # name, columns that it is recognised by
    ("audiocaps", ("youtube_id", "start_time", "caption")),
    ("clotho", ("file_name", "caption_1")),
    ("folder", ("file_name", "caption")),
)


@dataclass(frozen=True, kw_only=True)
class CaptionedAudio:
    """One clip of a set, as its list describes it."""

    name: str  # unique in its list: the file's name, or the id of the video and where the clip begins
    names: tuple[str, ...]  # what its file may be called, with or without an extension; the likeliest first
    captions: tuple[str, ...]
    tags: tuple[str, ...] = ()  # of WavCaps: Freesound's tags, the BBC's categories
    title: str = ""
    video_caption: str = ""
    youtube_id: str = ""  # of AudioCaps, and of the part of WavCaps that comes from AudioSet
    freesound_id: str = ""  # of the part of WavCaps that comes from there
    start_ms: int = 0  # of the clip in its video; a file that lasts no longer than the clip is the clip itself
    end_ms: int | None = None
    path: str = ""  # of its file, once `locate` has found it


@dataclass(frozen=True)
class AudioList:
    """The clips of a list, and in words what in it could not be used."""

    kind: str  # audiocaps | clotho | wavcaps | folder
    clips: list[CaptionedAudio]
    skipped: list[str]


def read_audio_list(path: str | Path, *, skip_damaged: bool = False) -> AudioList:
    """Read a list in any of the four formats. Raises SourceError that names the file, the line and the field.

    `skip_damaged`: rows that cannot be used are left out and named in `skipped`; the file as a whole must be readable.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
        if path.name.lower().removesuffix(".gz").endswith(".json"):
            return _wavcaps(json.loads(data.decode("utf-8-sig")), path, skip_damaged)
        with io.StringIO(data.decode("utf-8-sig"), newline="") as file:
            return _from_csv(csv.DictReader(file, strict=True), path, skip_damaged)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist: name the CSV or JSON file that lists the clips") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from None
    except (csv.Error, json.JSONDecodeError, EOFError, zlib.error, RecursionError) as error:
        raise SourceError(f"{path} is damaged ({error}): fetch or save it again") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None


def locate(listed: AudioList, folder: str | Path) -> AudioList:
    """Return the list with the file of every clip, looked up by name in a folder and all folders below it.

    Clips without a file are left out and named in `skipped`, since sets from YouTube always lack some; so are clips
    whose name fits files in several folders, all but one of which are other sounds. Raises SourceError where there is
    no such folder, or no file of any clip in it.
    """
    if not Path(folder).is_dir():
        raise SourceError(f"{folder} is no folder: name the one that holds the audio files of the list")
    by_name, by_stem = _files(Path(folder))
    clips, missing, ambiguous = [], [], []
    for clip in listed.clips:
        places = (by_name.get(name) or by_stem.get(name) or by_stem.get(_stem(name)) for name in clip.names)
        file, other = next((place for place in places if place), (None, None))
        if other:
            ambiguous.append(f"{clip.name} may be {file} or {other}: write more of its path into the list")
        elif file:
            clips.append(replace(clip, path=file))
        else:
            missing.append(f"{clip.name}: no file of that name")
    if not listed.clips:
        why = "; ".join(listed.skipped[:3]) or "it is empty"
        raise SourceError(f"the list of the audio in {folder} has no clip with a caption: {why}")
    if not clips and ambiguous:
        raise SourceError(f"{folder} holds no clip of the list once: {ambiguous[0]}, or name the folder more closely")
    if not clips:
        some = ", ".join(listed.clips[0].names[:3])
        raise SourceError(
            f"{folder} holds the audio of no clip of the list. Looked for {some}, with any of the extensions "
            f"{', '.join(EXTENSIONS)}"
        )
    return AudioList(listed.kind, clips, listed.skipped + ambiguous + missing)


_Place = tuple[str, str | None]
"""A file, and one with the same name in another folder, if there is one."""


def _files(folder: Path) -> tuple[dict[str, _Place], dict[str, _Place]]:
    """Return the audio files by their name and path below the folder, and by their name without the extension."""
    by_name: dict[str, _Place] = {}
    by_stem: dict[str, _Place] = {}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names, key=lambda name: (_preference(name), name)):
            if _preference(name) < len(EXTENSIONS):
                path = Path(root, name)
                for key in {name, path.relative_to(folder).as_posix()}:
                    _add(by_name, key, path, folder)
                    _add(by_stem, _stem(key), path, folder)
    return by_name, by_stem


def _add(places: dict[str, _Place], key: str, path: Path, top: Path) -> None:
    """Add a file: in one folder the better extension counts; at the top a name is the whole path."""
    first, other = places.setdefault(key, (str(path), None))
    if other or first == str(path) or Path(first).parent in (path.parent, top):
        return
    if Path(first).resolve() != path.resolve():  # not one folder that is linked twice
        places[key] = first, str(path)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _preference(name: str) -> int:
    extension = name.rpartition(".")[2].lower()
    return EXTENSIONS.index(extension) if extension in EXTENSIONS else len(EXTENSIONS)


# --- CSV


def _from_csv(rows: "csv.DictReader[str]", path: Path, skip_damaged: bool) -> AudioList:
    columns = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    for kind, needed in _CSV_KINDS:
        if all(name in columns for name in needed):
            read = {"audiocaps": _audiocaps_row, "clotho": _clotho_row, "folder": _folder_row}[kind]
            return _grouped(kind, _lines(rows, path), read, skip_damaged)
    known = "; ".join(f"{kind}: {','.join(needed)}" for kind, needed in _CSV_KINDS)
    raise SourceError(f"{path}: columns {', '.join(columns) or 'none'} found, these expected: {known}")


def _lines(rows: "csv.DictReader[str]", path: Path) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yield the place of each row, its fields, and how many fields it has."""
    for row in rows:
        yield f"{path}, line {rows.line_num}", row, len(rows.fieldnames or ())


def _checked(where: str, row: dict[str, Any], num_fields: int) -> dict[str, str]:
    if None in row or None in row.values():
        found = len(row.get(None) or ()) + sum(v is not None for k, v in row.items() if k)  # type: ignore[call-overload]
        raise SourceError(
            f"{where}: {found} fields found, {num_fields} expected: put a field that holds a comma into double quotes"
        )
    return {name: value.strip() for name, value in row.items()}


def _grouped(
    kind: str,
    lines: Iterable[tuple[str, dict[str, Any], int]],
    read: Callable[[dict[str, str], str], CaptionedAudio],
    skip_damaged: bool,
) -> AudioList:
    """Turn the rows of one clip into one clip with several captions."""
    clips: dict[str, CaptionedAudio] = {}
    skipped = []
    for where, row, num_fields in lines:
        try:
            clip = read(_checked(where, row, num_fields), where)
        except SourceError as error:
            if not skip_damaged:
                raise
            skipped.append(str(error))
            continue
        if not clip.captions:
            skipped.append(f"{where}: no caption")
            continue
        if first := clips.get(clip.name):
            clip = replace(
                first, captions=first.captions + clip.captions, names=tuple(dict.fromkeys(first.names + clip.names))
            )
        clips[clip.name] = clip
    return AudioList(kind, list(clips.values()), skipped)


def _audiocaps_row(row: dict[str, str], where: str) -> CaptionedAudio:
    video, start = row["youtube_id"], row["start_time"]
    try:
        start_ms = round(float(start) * 1000)
    except (ValueError, OverflowError):  # no number, or no end of it
        start_ms = -1
    if not video or start_ms < 0:
        raise SourceError(f"{where}: youtube_id {video!r}, start_time {start!r}: an id and seconds are expected")
    end_ms = start_ms + TEN_SECONDS_MS
    names = (f"{video}_{start}", f"{video}_{start_ms // 1000}_{end_ms // 1000}", f"{video}_{start_ms}_{end_ms}")
    identifier = row.get("audiocap_id", "")
    return CaptionedAudio(
        name=f"{video}_{start_ms}_{end_ms}",
        names=tuple(filter(None, (*names, identifier, video, f"Y{video}"))),
        captions=_texts(row["caption"]),
        youtube_id=video,
        start_ms=start_ms,
        end_ms=end_ms,
    )


def _clotho_row(row: dict[str, str], where: str) -> CaptionedAudio:
    captions = [row[name] for name in row if name.startswith("caption_")]
    return CaptionedAudio(name=_file_name(row, where), names=(row["file_name"],), captions=_texts(*captions))


def _folder_row(row: dict[str, str], where: str) -> CaptionedAudio:
    return CaptionedAudio(
        name=_file_name(row, where),
        names=(row["file_name"],),
        captions=_texts(row["caption"]),
        title=row.get("title", ""),
        video_caption=row.get("video_caption", ""),
    )


def _file_name(row: Mapping[str, str], where: str) -> str:
    if not row["file_name"]:
        raise SourceError(f"{where}: file_name is empty: name the audio file")
    return row["file_name"]


def _texts(*texts: str) -> tuple[str, ...]:
    return tuple(" ".join(text.split()) for text in texts if text.strip())


# --- WavCaps


def _wavcaps(content: Any, path: Path, skip_damaged: bool) -> AudioList:
    items = content.get("data") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise SourceError(f'{path}: no WavCaps list: an object with a list "data" is expected')
    clips, skipped = [], []
    for number, item in enumerate(items):
        where = f"{path}, item {number}"
        if not isinstance(item, dict) or not isinstance(item.get("id"), str | int):
            problem = f'{where}: an object with an "id" is expected'
            if not skip_damaged:
                raise SourceError(problem)
            skipped.append(problem)
            continue
        name = str(item["id"])
        captions = item.get("caption")
        texts = _texts(*captions) if isinstance(captions, list) else _texts(str(captions or ""))
        if not texts:
            skipped.append(f"{where}: no caption")
            continue
        stem = _stem(name) if _preference(name) < len(EXTENSIONS) else name
        is_freesound = "tags" in item or path.name.startswith("fsd")  # no other part has tags
        is_youtube = name.startswith("Y") and stem != name  # AudioSet's ids alone carry a Y and an extension
        clips.append(
            CaptionedAudio(
                name=name,
                names=tuple(dict.fromkeys((name, stem, stem[1:] if is_youtube else stem))),
                captions=texts,
                tags=_tags(item.get("tags")) + _tags(item.get("category")),
                title=str(item.get("title") or "").strip(),
                youtube_id=stem[1:] if is_youtube else "",
                freesound_id=stem if is_freesound and not is_youtube else "",
            )
        )
    return AudioList("wavcaps", clips, skipped)


def _tags(value: Any) -> tuple[str, ...]:
    """Return tags from a list, or from the text of one as WavCaps has it: "['rain', 'roof']"."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = value.strip(" []").split(",")
    elif isinstance(value, str):
        value = value.split(",")
    names = value if isinstance(value, list | tuple) else ()
    return _texts(*(str(name) for name in names))
