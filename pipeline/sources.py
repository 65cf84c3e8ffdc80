"""What a build can be planned from, each compared with the plan in its own way: `pipeline.plan.Source`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.dataset.log import State
from pipeline.dataset.store import Store
from pipeline.plan import Found, new_videos, plan_table
from stages.sources import read_folder
from stages.text import printable


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


def some_of(names: Sequence[str], count: int = 3) -> str:
    """The first few of many names, fit to be shown."""
    return ", ".join(printable(name, 60) for name in names[:count]) + (", ..." if len(names) > count else "")
