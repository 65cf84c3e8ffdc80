"""Captions files of any length from end to end, in windows of what the model hears at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from autorecap.base.files import local_file, portable
from autorecap.stages.captions import Captions
from autorecap.stages.media_files.ffmpeg import MediaError, read_header
from autorecap.stages.media_files.levels import levels
from autorecap.stages.media_files.stream import stream
from autorecap.stages.records import Clip, Verdict, Video

SHORTEST_MS = 1_000
"""A rest of up to a second is too short for a caption of its own, as a clip is (paper, A.2)."""
STALL_S = 60.0  # without anything from ffmpeg


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of a file and its caption. `caption` is empty where the span is silent."""

    file: str
    start_ms: int
    end_ms: int
    caption: str
    silent: bool
    rms_dbfs: float


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A file that could not be read, or not to its end: the windows before the damage stand."""

    file: str
    error: str


def caption_files(
    files: Iterable[str],
    captions: Captions,
    title: str = "",
    heard: Callable[[float, str], None] = lambda _num_files, _file: None,
) -> Iterator[Window | Unread]:
    """Yield every window of every file, in order. A file that cannot be read is named, and the others go on.

    However long the files, no more audio is in memory than one batch of `captions`. `title`: what is known about the
    files. `heard`: told, as it goes, how many files have been read, a share of the last one included, and its name.
    """
    batch: list[tuple[str, Clip]] = []
    for num_done, file in enumerate(files):
        try:
            for clip, share in _clips(file, captions):
                heard(num_done + share, file)
                batch.append((file, clip))
                if len(batch) == captions.config.batch_clips:
                    yield from _captioned(batch, captions, title)
                    batch = []
        except (OSError, MediaError) as error:
            yield from _captioned(batch, captions, title)
            batch = []
            text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            yield Unread(file=file, error=text)
        heard(num_done + 1, file)
    yield from _captioned(batch, captions, title)


def _clips(file: str, captions: Captions) -> Iterator[tuple[Clip, float]]:
    """Yield the windows of one file with their audio, and the share of the file that has been read with each."""
    model = captions.model.config
    rate = model.htsat.mel.sample_rate_hz
    with local_file(portable(file)) as path:
        if not path.is_file():
            raise MediaError("no regular file: save what it gives to a file first")
        if path.stat().st_size == 0:
            raise MediaError("the file is empty")
        header = read_header(str(path), STALL_S)
        if not header.has_audio:
            raise MediaError("no audio stream")
        pieces = stream(str(path), rate, model.num_samples, header.duration_ms, STALL_S)
        for first, pcm in windows(pieces, SHORTEST_MS * rate // 1000):
            last = first + len(pcm) // 2
            if last * 1000 < captions.shortest_ms * rate:
                raise MediaError(f"only {last * 1000 // rate} ms of audio, too little to caption")
            rms_dbfs, peak_dbfs = levels(pcm)
            clip = Clip(
                start_ms=first * 1000 // rate,
                end_ms=last * 1000 // rate,
                audio=pcm,
                sample_rate_hz=rate,
                num_samples=last - first,
                rms_dbfs=rms_dbfs,
                peak_dbfs=peak_dbfs,
            )
            yield clip, min(1.0, clip.end_ms / header.duration_ms) if header.duration_ms else 0.0


def windows(pieces: Iterable[bytes], shortest: int) -> Iterator[tuple[int, bytes]]:
    """Yield pieces of 16-bit PCM with the sample at which each begins.

    A last piece of up to `shortest` samples shares evenly with the one before it, so that everything is captioned and
    nothing twice. Where the pieces break off with an error, what has come of them is given first.
    """
    first, held = 0, b""
    error: Exception | None = None
    rest = iter(pieces)
    while True:
        try:
            piece = next(rest, b"")
        except (OSError, MediaError) as broken:
            piece, error = b"", broken
        if held and 0 < len(piece) <= 2 * shortest:
            both = held + piece
            half = len(both) // 4 * 2
            held, piece = both[:half], both[half:]
        if held:
            yield first, held
            first += len(held) // 2
        if error:
            raise error
        if not piece:
            return
        held = piece


def _captioned(batch: Sequence[tuple[str, Clip]], captions: Captions, title: str) -> Iterator[Window]:
    """Caption one batch: files go through the captions stage as videos, and their windows as clips."""
    videos = [
        Video(row=row, video_id=str(row), media=file, title=title, clips=tuple(clip for _, clip in group))
        for row, (file, group) in enumerate(groupby(batch, key=lambda item: item[0]))
    ]
    for video in captions(videos) if videos else ():
        for clip in video.clips:
            yield Window(
                file=video.media,
                start_ms=clip.start_ms,
                end_ms=clip.end_ms,
                caption=clip.caption,
                silent=clip.verdict is Verdict.SILENT,
                rms_dbfs=clip.rms_dbfs or 0.0,
            )
