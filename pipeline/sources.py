"""What a build can be planned from, each compared with the plan in its own way: `pipeline.plan.Source`."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.dataset.log import State
from pipeline.dataset.store import Store
from pipeline.gather import Gathered, found
from pipeline.plan import Found, new_videos, plan_table
from stages.sources import read_folder
from stages.sources.lists import Thresholds, VideoList, open_list
from stages.text import printable

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class FolderSource:
    """A folder of videos as yt-dlp leaves it, local or behind a URL."""

    folder: str

    def find(self, store: Store, state: State) -> Found:
        folder = read_folder(self.folder)
        new, other = new_videos(store, state, folder.videos)
        lines = [f"{len(folder.videos)} videos in the folder, {len(new)} of them new to {store.url}"]
        for names, what in (
            ([video.video_id for video in other], "have an id that the dataset holds for another file: not read again"),
            (folder.unfinished, "unfinished downloads are left alone"),
            (folder.without_media, "transcripts have no video beside them"),
            (folder.second_media, "second media files of a video are not read"),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {some_of(names)}")
        report = {"kind": "folder", "videos": len(folder.videos), "new": len(new)}
        return Found(state, len(new), lambda: iter([plan_table(new)] if new else []), lines, report)


@dataclass(frozen=True)
class ListSource:
    """Lists of online videos. `times`: the clips that they state are built, and not the gaps of the transcripts."""

    lists: Sequence[str]  # PATH or NAME=PATH, local or behind URLs
    exclude: Sequence[str] = ()  # lists of videos that are left out
    times: bool = False
    thresholds: Thresholds | None = None  # of the clips of released sets
    progress: Callable[[VideoList], None] = lambda source: None

    def find(self, store: Store, state: State) -> Found:
        started = time.monotonic()
        opened = [_open(argument) for argument in self.lists]  # all of them, before the first is read
        excluded = [_open(argument) for argument in self.exclude]
        gathered = Gathered()
        for source in excluded:
            gathered.exclude(source)
        for source in opened:
            gathered.add(source, times=self.times, thresholds=self.thresholds, progress=self.progress)
        gathered.compare(store, state)
        gathered.sort_out()
        return found(gathered, state, started)


def _open(argument: str) -> VideoList:
    """The list of an argument, PATH or NAME=PATH. Raises SourceError."""
    name, equals, path = argument.partition("=")
    if equals and _NAME.fullmatch(name) and not Path(argument).exists():
        return open_list(path, name)
    return open_list(argument)


def some_of(names: Sequence[str], count: int = 3) -> str:
    """The first few of many names, fit to be shown."""
    return ", ".join(printable(name, 60) for name in names[:count]) + (", ..." if len(names) > count else "")
