"""Reads a folder of videos, as yt-dlp leaves it.

ID.<media>                 webm, mp4, m4a, ogg, ...
ID.info.json               may be missing
ID.<language>.<format>     transcripts: json3, srv1, srv2, srv3, vtt, srt, ttml, xml, or youtube-transcript-api's json
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fsspec

from autorecap.base.files import explanation, is_remote, portable
from autorecap.base.text import printable
from autorecap.stages.records import Video, safe_video_id
from autorecap.stages.sources.errors import SourceError

MEDIA = (
    *("opus", "ogg", "oga", "m4a", "webm", "mp4", "mkv", "mka", "mp3", "flac", "wav", "aac"),
    *("m4v", "mov", "3gp", "avi", "flv", "ts", "aiff", "wma", "wmv", "amr"),
)
"""Extensions of media files. Of two files of one video the one that stands first here is read: audio is smaller."""
TRANSCRIPTS = ("json3", "srv1", "srv2", "srv3", "vtt", "srt", "ttml", "xml", "json")
_INFO = ".info.json"
_FORKS = "._"  # macOS adds such files on foreign disks, named after real ones
_UNFINISHED = re.compile(
    r".*\.(?:part|ytdl|temp|tmp)"
    # What yt-dlp has still to join, or is joining: ID.f137.mp4, ID.f251-drc.webm, ID.temp.mp4.
    rf"|.+\.(?:temp|f\d+[\w-]*)\.(?:{'|'.join(MEDIA)})",
    re.IGNORECASE | re.DOTALL,
)


@dataclass
class Folder:
    """The content of a folder, sorted by name."""

    videos: list[Video]
    unfinished: list[str] = field(default_factory=list)  # downloads that are not finished
    without_media: list[str] = field(default_factory=list)  # transcripts without a video
    second_media: list[str] = field(default_factory=list)  # further media files of the same video


def read_folder(folder: str) -> Folder:
    """List the videos of a local folder or of one behind an fsspec URL, with their sidecar files. Raises SourceError.

    It looks at names only: the stages find out what the files hold.
    """
    if not folder.strip():
        raise SourceError("the name of the folder is empty: name the one that holds the videos")
    root, names = _list(folder)
    content = Folder([], unfinished=[name for name in names if _UNFINISHED.fullmatch(name)])
    names = [name for name in names if not _UNFINISHED.fullmatch(name)]
    media: dict[str, str] = {}
    for name in names:
        stem, _, extension = name.rpartition(".")
        if stem and extension.lower() in MEDIA:
            media[stem], *second = sorted({media.get(stem, name), name}, key=_preference)
            content.second_media += second
    infos: dict[str, str] = {}
    sidecars: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(_INFO):
            infos[name.removesuffix(_INFO)] = name
        elif name.rpartition(".")[2].lower() in TRANSCRIPTS:
            stem = next((stem for stem in _stems(name) if stem in media), "")
            if stem:
                sidecars.setdefault(stem, []).append(name)
            else:
                content.without_media.append(name)
    times_taken = Counter(map(safe_video_id, media))
    for stem, name in sorted(media.items()):
        video_id = safe_video_id(stem)
        if times_taken[video_id] > 1:  # all of these, so that it does not matter which one is the first
            video_id = safe_video_id(stem, num_hex=15)
        content.videos.append(
            Video(
                row=-1,
                video_id=video_id,
                original_name=stem.encode("utf-8", "replace").decode(),
                source=printable(root.rpartition("/")[2]),
                media=portable(f"{root}/{name}"),
                info=portable(f"{root}/{infos[stem]}") if stem in infos else "",
                sidecars=tuple(portable(f"{root}/{sidecar}") for sidecar in sidecars.get(stem, ())),
            )
        )
    return content


def _list(folder: str) -> tuple[str, list[str]]:
    """Return the folder's own path or URL, and the names of the files in it, sorted."""
    try:
        if is_remote(folder):
            root = folder.rstrip("/")
            fs, path = fsspec.core.url_to_fs(root)
            names = [entry["name"].rpartition("/")[2] for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
        else:
            root = str(Path(folder).expanduser().absolute())
            names = [entry.name for entry in os.scandir(root) if _is_file(entry)]
    except FileNotFoundError:
        raise SourceError(f"{folder} does not exist: name the folder that holds the videos") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is a file: name the folder that holds the videos") from None
    except Exception as error:  # every fsspec back-end has errors of its own
        raise SourceError(f"{folder} cannot be listed: {explanation(folder, error)}") from error
    return root, sorted(name for name in names if not name.startswith(_FORKS))


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a broken link: the stage that opens it says what is wrong."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def _stems(name: str) -> Iterator[str]:
    """Yield the stems whose transcript `name` could be: with a language part, which has no dot, and without."""
    without_format = name.rpartition(".")[0]
    yield without_format
    stem, dot, _ = without_format.rpartition(".")
    if dot:
        yield stem


def _preference(name: str) -> tuple[int, str]:
    return MEDIA.index(name.rpartition(".")[2].lower()), name
