"""Captioned clips to train on: what a clip is, and how those of published audio sets and of a CSV are read.

What reads audio, Parquet and S3 is imported when the first clip is wanted: a machine that trains on tensors needs none.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autorecap.base.errors import ForeseenError
from autorecap.base.wav import from_pcm

_DECODE_TIMEOUT_S = 60.0
_SLACK_S = 1.0
"""A file that is longer than its clip by more than this is not the clip but the whole video."""

Audio = tuple[NDArray[Any], int]
"""Samples of shape (S,) or (channels, S), and their rate in Hz."""


class Latent(NamedTuple):
    """A clip as the VAE hears it, and its caption as the text encoders read it. fp32

    Shape suffixes: C channels, T latent frames, W width of the summary, N words, D width of a word.
    """

    mean_CT: NDArray[Any]
    logvar_CT: NDArray[Any]
    summary_W: NDArray[Any] | None = None
    words_ND: NDArray[Any] | None = None


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
    load: Callable[[float, float], Audio | Latent]
    """`load(window_s, share)`: the audio, of a longer clip a piece of `window_s` seconds. `share` in [0, 1) says
    which: 0 is the first. Of a clip that is stored as latents, a piece as it was encoded. Raises UnreadableClipError.
    """
    read_video_caption: Callable[[], str] = lambda: ""
    dataset: str = ""  # the name of its set
    seconds: float | None = None  # how long it is, where that is known without opening it

    @property
    def video_caption(self) -> str:
        """The caption of the picture, or "". Raises UnreadableClipError: it may have to be read from the shard."""
        return self.read_video_caption()


class Clips(Protocol):
    """A set of clips, as it was when it was opened."""

    name: str  # the dataset whose style it has

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    @property
    def shard_sizes(self) -> NDArray[np.int64]:
        """The number of clips in each of its shards, which follow one another. What is not in shards is one shard."""
        ...

    def prepare(self, shard: int, window: int) -> None:
        """Fetch what the clips of a shard will need. `window`: so many are open at once. Nothing changes but times."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """The plain values that fix the set: other clips, or other captions, give other values."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Notes for people, such as how many clips were left out."""
        ...


class ListedClips:
    """The clips of a published list whose files are there."""

    def __init__(self, path: str, folder: str, name: str = "") -> None:
        from autorecap.stages.sources import SourceError, locate, read_audio_list

        try:
            found = locate(read_audio_list(path), folder)
        except SourceError as error:
            raise DataError(str(error)) from error
        self.path, self.kind, self.clips, self.skipped = path, found.kind, found.clips, found.skipped
        self.name = name or self.kind

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        clip = self.clips[index]

        def load(window_s: float, share: float) -> Audio:
            with named(clip.name):
                span = None if clip.end_ms is None else (clip.start_ms / 1000, clip.end_ms / 1000)
                return read_audio(clip.path, window_s, share, span)

        return Clip(
            name=clip.name,
            captions=clip.captions,
            title=clip.title,
            read_video_caption=lambda: clip.video_caption,
            load=load,
            dataset=self.name,
        )

    @property
    def shard_sizes(self) -> NDArray[np.int64]:
        return np.array([len(self.clips)])

    def prepare(self, shard: int, window: int) -> None:
        """Nothing: the files are on this machine."""

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
    """Read the audio of a file, or a piece of it. `span_s`: where the clip lies, should the file be longer."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate, length = file.samplerate, len(file)
            start_s, seconds = piece(length / rate, window_s, share, span_s)
            file.seek(min(round(start_s * rate), length))
            return file.read(round(seconds * rate), dtype="float32", always_2d=True).T, rate
    except (soundfile.LibsndfileError, RuntimeError):
        return _read_by_ffmpeg(path, window_s, share, span_s)  # m4a, webm, mp4, ...


def _read_by_ffmpeg(path: str, window_s: float, share: float, span_s: tuple[float, float] | None) -> Audio:
    from autorecap.stages.media_files.ffmpeg import MediaError, decode, read_header

    rate = 32_000
    header = read_header(path, _DECODE_TIMEOUT_S)
    if header.duration_ms is None or not header.has_audio:
        raise MediaError("no audio in it")
    start_s, seconds = piece(header.duration_ms / 1000, window_s, share, span_s)
    pcm, _ = decode(path, round(start_s * 1000), round((start_s + seconds) * 1000), rate, _DECODE_TIMEOUT_S)
    return from_pcm(pcm), rate


def piece(length_s: float, window_s: float, share: float, span_s: tuple[float, float] | None) -> tuple[float, float]:
    """Return where the piece of a clip begins, and how long it is, in seconds."""
    first_s, end_s = 0.0, length_s
    if span_s and length_s > span_s[1] - span_s[0] + _SLACK_S:
        first_s, end_s = span_s[0], min(span_s[1], length_s)
    seconds = max(end_s - first_s, 0.0)
    if seconds <= window_s:
        return first_s, seconds
    return first_s + share * (seconds - window_s), window_s


@contextmanager
def named(name: str) -> Iterator[None]:
    """Turn whatever goes wrong in reading one clip into UnreadableClipError, which names the clip."""
    try:
        yield
    except Exception as error:  # libraries have errors of their own: the clip is left out, and named with the reason
        raise UnreadableClipError(f"{name}: {type(error).__name__}: {error}") from error
