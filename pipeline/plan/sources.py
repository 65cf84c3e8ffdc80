"""Plans from folders, lists and audio sets. Each `Source` compares what it holds with the plan in its own way."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from autorecap.base.files import portable
from autorecap.base.text import printable
from autorecap.dataset.log import State
from autorecap.dataset.store import Store
from autorecap.pipeline.plan.lists import Gathered, explained, found
from autorecap.pipeline.plan.plan import Found, Source, new_videos, plan_table
from autorecap.pipeline.plan.segments_source import SegmentsSource, is_segments
from autorecap.stages.records import TO_THE_END, Clip, Video, safe_video_id
from autorecap.stages.sources import CaptionedAudio, SourceError, locate, read_audio_list, read_folder
from autorecap.stages.sources.lists import Thresholds, VideoList, freesound_ids, open_list

_RELEASED = "autorecap"
_NO_RELEASED = "--min-clap and --min-seconds are for clips of the released AutoReCap-XL, and no list holds any"
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
        if self.thresholds not in (None, Thresholds()) and all(each.layout.kind != _RELEASED for each in opened):
            raise SourceError(_NO_RELEASED)
        gathered = Gathered()
        with explained():
            for source in excluded:
                gathered.exclude(source)
            for source in opened:
                gathered.add(source, times=self.times, thresholds=self.thresholds, progress=self.progress)
            gathered.compare(store, state)
            gathered.sort_out()
            return found(gathered, state, started)


def _open(argument: str) -> VideoList:
    """Open the list of an argument, PATH or NAME=PATH. Raises SourceError."""
    name, equals, path = argument.partition("=")
    if equals and _NAME.fullmatch(name) and not Path(argument).exists():
        return open_list(path, name)
    return open_list(argument)


@dataclass(frozen=True)
class AudioSetSource:
    """Captioned audio sets whose files are there: every clip is captioned again, its own caption kept beside."""

    sets: Sequence[tuple[str, str]]  # list, folder of its files
    exclude: Sequence[str] = ()  # lists of videos whose clips are left out

    def find(self, store: Store, state: State) -> Found:
        videos: dict[str, Video] = {}
        lines, reports = [], []
        skipped: dict[str, list[str]] = {}
        excluded = [_open(argument) for argument in self.exclude]
        freesound = {name for source in excluded if source.layout.whole for name in freesound_ids(source.path)}
        for path, folder in self.sets:
            listed = read_audio_list(path, skip_damaged=True)
            located = locate(listed, folder)
            skipped[path] = located.skipped
            banned = self._excluded([clip.youtube_id for clip in located.clips if clip.youtube_id])
            name = _set_name(path)
            kept = [
                _video(clip, name)
                for clip in located.clips
                if clip.youtube_id not in banned and clip.freesound_id not in freesound
            ]
            fresh = {video.video_id: video for video in kept if video.video_id not in videos}
            videos |= fresh
            counts = {
                "clips": len(listed.clips),
                "with a file": len(located.clips),
                "excluded": len(located.clips) - len(kept),
                "repeated": len(kept) - len(fresh),
                "left out": len(located.skipped),
            }
            shown = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            lines.append(f"{printable(Path(path).name, 60)}: {located.kind}, {shown}")
            lines += [f"  {printable(why)}" for why in located.skipped[:3]]
            if len(located.skipped) > 3:
                lines.append(f"  ... and {len(located.skipped) - 3} more, see runs/")
            reports.append({"list": printable(path), "format": located.kind, "name": name, **counts})
        new, other = new_videos(store, state, list(videos.values()))
        lines.append(f"{len(videos)} clips with their files: {len(new)} of them new")
        if other:
            ids = [video.video_id for video in other]
            lines.append(
                f"{len(other)} have an id that the plan holds for another file: not read again: {some_of(ids)}"
            )
        report = {"kind": "audio sets", "sets": reports, "new": len(new), "new_with_clips": len(new), "clips": len(new)}
        return Found(
            state, len(new), lambda: iter([plan_table(new)] if new else []), lines, report, lambda: _left_out(skipped)
        )

    def _excluded(self, ids: Sequence[str]) -> set[str]:
        """Return the ids that a list of `exclude` names: such a list may be long."""
        wanted = pa.array(ids, pa.string())
        return {
            name
            for argument in self.exclude
            for part in _open(argument).read()
            for name in part.videos.filter(pc.is_in(part.videos["id"], value_set=wanted))["id"].to_pylist()
        }


def _left_out(skipped: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, bytes]]:
    """Yield what was left out of each set, as JSON lines."""
    for number, (path, reasons) in enumerate(skipped.items()):
        if reasons:
            lines = [json.dumps({"list": printable(path), "what": printable(why)}) for why in reasons]
            yield f"left-out-{number:03d}.jsonl", ("\n".join(lines) + "\n").encode()


def _video(clip: CaptionedAudio, name: str) -> Video:
    """Return a clip of a set as a video of its own. File names are unique in their set only, AudioCaps' anywhere."""
    video_id = clip.name if clip.end_ms is not None else safe_video_id(f"{name}/{clip.name}")
    times = Clip(
        start_ms=clip.start_ms,
        end_ms=TO_THE_END if clip.end_ms is None else clip.end_ms,
        original_caption="\n".join(clip.captions),
        tags=clip.tags,
        video_caption=clip.video_caption,
    )
    return Video(
        row=-1,
        video_id=safe_video_id(video_id),
        original_name=clip.name.encode("utf-8", "replace").decode(),
        source=name,
        title=printable(clip.title),
        media=portable(str(Path(clip.path).absolute())),
        given=True,
        clips=(times,),
    )


def _set_name(path: str) -> str:
    return printable(Path(path).name.removesuffix(".gz").rpartition(".")[0].replace(",", " "), 60) or "audio"


@dataclass(frozen=True)
class Together:
    """Several sources, whose videos have different ids."""

    sources: Sequence[Source]

    def find(self, store: Store, state: State) -> Found:
        parts = [source.find(store, state) for source in self.sources]
        return Found(
            state,
            sum(part.num_new for part in parts),
            lambda: (table for part in parts for table in part.tables()),
            [line for part in parts for line in part.lines],
            {"kind": "several", "sources": [part.report for part in parts], "new": sum(part.num_new for part in parts)},
            lambda: (note for part in parts for note in part.notes()),
            lambda: _close(parts),
        )


def _close(parts: Sequence[Found]) -> None:
    for part in parts:
        part.close()


def of_arguments(
    lists: Sequence[str],
    *,
    exclude: Sequence[str] = (),
    times: bool = False,
    released: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    progress: Callable[[VideoList], None] = lambda source: None,
) -> Source:
    """Return the source that `autorecap plan` and `build --lists` name: lists as [NAME=]PATH, sets as PATH@FOLDER.

    Raises SourceError where there is none.
    """
    sets = [parts for argument in lists if (parts := _set_and_folder(argument))]
    files = [argument for argument in lists if not _set_and_folder(argument)]
    files += [f"{_RELEASED}={path}" for path in released]
    sources: list[Source] = []
    if files:
        sources.append(ListSource(files, exclude, times, thresholds, progress))
    if sets:
        sources.append(AudioSetSource(sets, exclude))
    if not files and thresholds not in (None, Thresholds()):
        raise SourceError(_NO_RELEASED)
    if not sources:
        raise SourceError("no list is named: give at least one, such as eval_segments.csv")
    return sources[0] if len(sources) == 1 else Together(sources)


def of_build(videos: str | None, lists: Sequence[str], **options: Any) -> Source | None:
    """Return what a build plans from: a folder or a dataset of segments, or lists; None where none is named.

    `options`: those of `of_arguments`. Raises SourceError.
    """
    has_lists = bool(lists or options.get("released"))
    if videos is not None and has_lists:  # they may name the same videos, and neither knows of the other's
        raise SourceError(
            "--videos and lists in one build: name one of them now and the other in a second build into the same "
            "--out, which appends what is new"
        )
    if videos is not None:
        return SegmentsSource(videos) if is_segments(videos) else FolderSource(videos)
    return of_arguments(lists, **options) if has_lists else None


def _set_and_folder(argument: str) -> tuple[str, str] | None:
    """Return the parts of PATH@FOLDER; None where it is a path itself."""
    path, at, folder = argument.rpartition("@")
    if not at or not path or "://" in argument or Path(argument).exists():
        return None
    return path, folder


def some_of(names: Sequence[str], count: int = 3) -> str:
    """Return the first few of many names, fit to be shown."""
    return ", ".join(printable(name, 60) for name in names[:count]) + (", ..." if len(names) > count else "")
