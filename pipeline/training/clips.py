"""Captioned clips to train on: datasets of this project, published audio sets, folders with a CSV.

A description of the data is one text:

    DATASET            a directory that `autorecap build` wrote, or s3://bucket/prefix
    LIST@FOLDER        a CSV or JSON list (AudioCaps, Clotho, WavCaps, or file_name,caption) and where its audio lies
    LIST               the same, the audio beside the list

What reads audio, Parquet and S3 is imported when the first clip is wanted: a machine that trains on tensors needs none.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ForeseenError

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.dataset.log import State
    from pipeline.dataset.store import Store

_LIST = re.compile(r"(?P<list>.+?\.(?:csv|json))(?:@(?P<folder>.+))?", re.IGNORECASE)
_COLUMNS = ("key", "shard", "offset", "size", "json_offset", "json_size", "caption", "title")
_DECODE_TIMEOUT_S = 60.0
_SLACK_S = 1.0
"""A file that is longer than its clip by more than this is not the clip but the whole video."""

Audio = tuple[NDArray[Any], int]
"""Samples of shape (S,) or (channels, S), and their rate in Hz."""


class DataError(ForeseenError):
    """The data cannot be used. The message names it and says what to do."""


class UnreadableClipError(Exception):
    """One clip cannot be read. The message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip to learn from."""

    name: str
    captions: tuple[str, ...]
    title: str
    video_caption: str
    load: Callable[[float, float], Audio]
    """`load(window_s, share)`: the audio, of a longer clip a piece of `window_s` seconds. `share` in [0, 1) says
    which: 0 is the first. Raises UnreadableClipError."""


class Clips(Protocol):
    """A set of clips, as it was when it was opened."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    @property
    def identity(self) -> dict[str, Any]:
        """What fixes the set, as plain values: another set has another."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What people should know, such as clips left out."""
        ...


def open_clips(data: str, where: str = "", seq: int | None = None) -> Clips:
    """The clips of one description. `where`: an SQL condition on the index, for datasets of this project.

    `seq`: the dataset as it was after so many commits; None: as it is now. Raises DataError and other ForeseenErrors.
    """
    found = _LIST.fullmatch(data)
    if found:
        return ListedClips(found["list"], found["folder"] or str(Path(found["list"]).parent))
    return DatasetClips(data, where, seq)


class AllClips:
    """Several sets, one after the other."""

    def __init__(self, sets: Sequence[Clips]) -> None:
        self.sets = sets
        self._ends = np.cumsum([len(clips) for clips in sets])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Clip:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sets[number][index - (int(self._ends[number - 1]) if number else 0)]

    @property
    def identity(self) -> dict[str, Any]:
        return {str(number): clips.identity for number, clips in enumerate(self.sets)}

    @property
    def notes(self) -> list[str]:
        return [note for clips in self.sets for note in clips.notes]


# --- lists


class ListedClips:
    """The clips of a published list whose files are there."""

    def __init__(self, path: str, folder: str) -> None:
        from stages.sources import SourceError, locate, read_audio_list

        try:
            found = locate(read_audio_list(path), folder)
        except SourceError as error:
            raise DataError(str(error)) from error
        self.path, self.kind, self.clips, self.skipped = path, found.kind, found.clips, found.skipped

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        clip = self.clips[index]

        def load(window_s: float, share: float) -> Audio:
            with _named(clip.name):
                span = None if clip.end_ms is None else (clip.start_ms / 1000, clip.end_ms / 1000)
                return read_audio(clip.path, window_s, share, span)

        return Clip(
            name=clip.name,
            captions=clip.captions,
            title=clip.title,
            video_caption=clip.video_caption,
            load=load,
        )

    @property
    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(repr((clip.name, clip.captions, clip.title, clip.video_caption)).encode())
        return {"list": self.kind, "clips": len(self.clips), "sha256": digest.hexdigest()}

    @property
    def notes(self) -> list[str]:
        if not self.skipped:
            return []
        some = "; ".join(self.skipped[:3]) + ("; ..." if len(self.skipped) > 3 else "")
        return [f"{self.path}: {len(self.clips)} clips, {len(self.skipped)} left out: {some}"]


def read_audio(path: str, window_s: float, share: float, span_s: tuple[float, float] | None = None) -> Audio:
    """The audio of a file, or a piece of it. `span_s`: of the clip, where the file is longer, so not the clip alone."""
    try:
        import soundfile

        with soundfile.SoundFile(path) as file:
            rate, length = file.samplerate, len(file)
            start_s, seconds = _piece(length / rate, window_s, share, span_s)
            file.seek(min(round(start_s * rate), length))
            return file.read(round(seconds * rate), dtype="float32", always_2d=True).T, rate
    except (soundfile.LibsndfileError, RuntimeError):
        return _read_by_ffmpeg(path, window_s, share, span_s)  # m4a, webm, mp4, ...


def _read_by_ffmpeg(path: str, window_s: float, share: float, span_s: tuple[float, float] | None) -> Audio:
    from stages.ffmpeg import MediaError, decode, read_header

    rate = 32_000
    header = read_header(path, _DECODE_TIMEOUT_S)
    if header.duration_ms is None or not header.has_audio:
        raise MediaError("no audio in it")
    start_s, seconds = _piece(header.duration_ms / 1000, window_s, share, span_s)
    pcm, _ = decode(path, round(start_s * 1000), round((start_s + seconds) * 1000), rate, _DECODE_TIMEOUT_S)
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32_768, rate


def _piece(length_s: float, window_s: float, share: float, span_s: tuple[float, float] | None) -> tuple[float, float]:
    """Where the piece begins, and how long it is, in seconds."""
    first_s, end_s = 0.0, length_s
    if span_s and length_s > span_s[1] - span_s[0] + _SLACK_S:
        first_s, end_s = span_s[0], min(span_s[1], length_s)
    seconds = max(end_s - first_s, 0.0)
    if seconds <= window_s:
        return first_s, seconds
    return first_s + share * (seconds - window_s), window_s


# --- datasets of this project


@dataclass(frozen=True)
class DatasetClips:
    """The committed clips of a dataset directory, sorted by shard, so that the list depends on the commits alone."""

    url: str
    where: str = ""
    seq: int | None = None
    _table: "pa.Table" = field(init=False, repr=False)
    _store: "Store" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from pipeline.dataset.view import DatasetView

        view = DatasetView(self.url)
        if self.seq is not None:
            view.state = _state_after(view.store, self.seq)
        if view.description["kind"] != "clips":
            raise DataError(f"{self.url} holds {view.description['kind']}: training needs a dataset of captioned clips")
        condition = f"where {self.where}" if self.where.strip() else ""
        columns = ", ".join(f'"{name}"' for name in _COLUMNS)
        query = f'select {columns} from clips {condition} order by shard, "offset"'  # noqa: S608  the user's own condition
        view.rows(f"select * from ({query}) limit 0")  # noqa: S608  raises BadQuery, in words
        table = view.sql.sql(query).to_arrow_table()  # and no list of rows: there may be 57 million
        if not len(table):
            raise DataError(f"{self.url} has no clips{' where ' + self.where if condition else ''}")
        object.__setattr__(self, "seq", view.state.next_seq)
        object.__setattr__(self, "_table", table)
        object.__setattr__(self, "_store", view.store)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Clip:
        row = self._table.slice(index, 1).to_pylist()[0]
        meta = self._store.read_range(row["shard"], row["json_offset"], row["json_offset"] + row["json_size"])

        def load(window_s: float, share: float) -> Audio:
            import soundfile

            with _named(row["key"]):
                flac = self._store.read_range(row["shard"], row["offset"], row["offset"] + row["size"])
                with soundfile.SoundFile(io.BytesIO(flac)) as file:
                    start_s, seconds = _piece(len(file) / file.samplerate, window_s, share, None)
                    file.seek(round(start_s * file.samplerate))
                    samples = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
                    return samples.T, file.samplerate

        return Clip(
            name=row["key"],
            captions=(row["caption"],),
            title=row["title"] or "",
            video_caption=json.loads(meta).get("video_caption") or "",
            load=load,
        )

    @property
    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for batch in self._table.select(["key", "caption"]).to_batches():
            digest.update("\n".join(map(str, batch.to_pylist())).encode())
        return {"seq": self.seq, "where": self.where, "clips": len(self), "sha256": digest.hexdigest()}

    @property
    def notes(self) -> list[str]:
        return []


def _state_after(store: "Store", seq: int) -> "State":
    """The state of a dataset after its first `seq` commits."""
    from pipeline.dataset.log import Commit, commit_name, fold

    names = [commit_name(number) for number in range(seq)]
    return fold(Commit.from_json(store.read(name), f"{store.url}/{name}") for name in names)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Whatever goes wrong in reading one clip is said of that clip."""
    try:
        yield
    except Exception as error:  # libraries have errors of their own: the clip is left out, and named with the reason
        raise UnreadableClipError(f"{name}: {type(error).__name__}: {error}") from error
