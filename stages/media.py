"""The media stage: reads the audio of the clips, and nothing but their spans; where wanted, also a picture of each.

Clips that touch, or lie close together, are read by one ffmpeg and cut apart by sample index. So joining neighbours
later is plain concatenation, and a clip has exactly the samples that its times say.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autorecap.base.files import is_remote, local_file
from autorecap.base.settings import Section, setting
from autorecap.base.text import printable
from autorecap.stages.media_files.ffmpeg import MediaError, decode, frames
from autorecap.stages.media_files.levels import levels
from autorecap.stages.origin import AudioFrom, ClipsFrom, TranscriptFrom
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Clip, Span, Verdict, Video
from autorecap.stages.youtube.player import VideoMeta, described
from autorecap.stages.youtube.problem import Problem, ended

if TYPE_CHECKING:
    from autorecap.stages.youtube.audio import YoutubeAudio
    from autorecap.stages.youtube.client import Youtube

_LONGEST_JOINED_READ_MS = 600_000
"""Ten minutes, 38 MB at 32 kHz: a read lies in memory as a whole."""


@dataclass(frozen=True, kw_only=True)
class MediaConfig(Section, name="media"):
    """Settings of the media stage: how audio is read."""

    sample_rate_hz: int = setting(
        32_000, "Sample rate of the stored audio. 32 kHz is what AutoCap hears.", results=True, ge=8_000, le=192_000
    )
    min_clip_ms: int = setting(
        1_000,
        "Milliseconds that a clip must exceed where the end of the audio cuts it short (paper, A.2).",
        results=True,
        ge=0,
    )
    max_clip_s_per_video: int = setting(
        1_800,
        "Clips beyond this many seconds of one video are left out, so one stream of a day fits a row.",
        results=True,
        gt=0,
    )
    join_reads_ms: int = setting(
        5_000,
        "Clips no further apart than this, in milliseconds, are read at once: decoding 5 s is cheaper than starting "
        "ffmpeg again. It changes results, because AAC's noise bands are random from where a read begins.",
        results=True,
        ge=0,
    )
    timeout_s: int = setting(300, "Seconds that reading all clips of one video may take.", gt=0)


@dataclass(frozen=True)
class FileAudio:
    """The audio of a local file."""

    path: Path
    bytes_read: int  # to copy it to this machine
    bytes_saved: int = 0
    meta: VideoMeta | None = None

    def decode(self, start_ms: int, end_ms: int, sample_rate_hz: int, timeout_s: float) -> tuple[bytes, bool]:
        """Decode a span as `autorecap.stages.media_files.ffmpeg.decode` does."""
        return decode(str(self.path), start_ms, end_ms, sample_rate_hz, timeout_s)


class Media:
    """Gives every clip its PCM and levels, or ends the video: undecodable, truncated_media, media_missing, timeout.

    `with_frames`: also adds the picture at the middle of each clip that has no caption of a picture yet.
    """

    name = "media"

    def __init__(self, config: MediaConfig, youtube: "Youtube | None" = None, *, with_frames: bool = False) -> None:
        """`youtube`: client that fetches the audio of online videos; None where all videos are files."""
        self.config, self.youtube = config, youtube
        self.with_frames = with_frames

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        if self.youtube is None:
            return [self._read(video) for video in videos]
        return self.youtube.map(self._read, videos)

    def _read(self, video: Video) -> Video:
        origin = video.origin
        name = printable(Path(video.media).name) if origin.audio is AudioFrom.FILE else video.video_id
        deadline = time.monotonic() + self.config.timeout_s
        clips: list[Clip] = []
        shortest_ms = 0 if origin.clips is ClipsFrom.SOURCE else self.config.min_clip_ms
        wanted, left_out = self._within_limit(video.clips)
        groups = _reads(wanted, self.config.join_reads_ms)
        spans = [(group[0].start_ms, max(clip.end_ms for clip in group)) for group in groups]
        try:
            with self._open(video, spans, deadline) as audio:
                for group, span in zip(groups, spans, strict=True):
                    pcm, truncated = audio.decode(*span, self.config.sample_rate_hz, deadline - time.monotonic())
                    end_ms = span[0] + len(pcm) * 500 // self.config.sample_rate_hz
                    if truncated and end_ms < span[1] - self.config.min_clip_ms:
                        detail = f"{name}: no audio after {end_ms / 1000:.2f} s, though the header promises more"
                        return video.ended(Reason.TRUNCATED_MEDIA, detail)
                    clips += [self._cut(clip, pcm, span[0], shortest_ms) for clip in group]
                if self.with_frames and isinstance(audio, FileAudio):
                    clips = _with_frames(clips, str(audio.path), deadline - time.monotonic())
        except OSError as error:
            return video.ended(Reason.MEDIA_MISSING, f"{name}: {error}")
        except MediaError as error:
            return video.ended(Reason.TIMEOUT if error.timeout else Reason.UNDECODABLE, f"{name}: {error}")
        except Problem as problem:
            return ended(video, problem, name)
        past_end = sum(clip.verdict is Verdict.PAST_END for clip in clips)
        if clips and past_end == len(clips):
            return video.ended(Reason.UNDECODABLE, f"{name}: no audio could be decoded in any clip")
        if audio.meta and origin.transcript is TranscriptFrom.NOBODY:  # else it came with the transcript
            video = described(video, audio.meta)
        return replace(
            video,
            clips=(*clips, *left_out),
            bytes_read=video.bytes_read + audio.bytes_read,
            bytes_saved=audio.bytes_saved,
            detail=f"{name}: {past_end} clips lie past the end of the audio" if past_end else "",
        )

    @contextmanager
    def _open(self, video: Video, spans: Sequence[Span], deadline: float) -> Iterator["FileAudio | YoutubeAudio"]:
        """Open the audio that the spans are decoded from. Raises OSError, Problem."""
        if video.origin.audio is AudioFrom.YOUTUBE:
            assert self.youtube is not None, "a video of YouTube, and nobody to ask for it"
            with self.youtube.audio(video, spans, deadline) as audio:
                yield audio
            return
        with local_file(video.media) as path:
            yield FileAudio(path, bytes_read=path.stat().st_size if is_remote(video.media) else 0)

    def _within_limit(self, clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
        """Return the clips up to `max_clip_s_per_video`, and the others dropped with their verdict."""
        left_ms = self.config.max_clip_s_per_video * 1000
        wanted: list[Clip] = []
        for clip in clips:
            left_ms -= clip.duration_ms
            if left_ms < 0:
                break
            wanted.append(clip)
        return wanted, [clip.dropped(Verdict.LEFT_OUT) for clip in clips[len(wanted) :]]

    def _cut(self, clip: Clip, pcm: bytes, origin_ms: int, shortest_ms: int) -> Clip:
        """Return the clip with its samples, taken from a read that begins at `origin_ms`.

        A clip at the end of the audio may become shorter, and is dropped where no more than `shortest_ms` is left of
        it.
        """
        rate = self.config.sample_rate_hz
        first = round((clip.start_ms - origin_ms) * rate / 1000)
        available_ms = max(0, len(pcm) // 2 - first) * 1000 // rate
        end_ms = min(clip.end_ms, clip.start_ms + available_ms)
        if end_ms < clip.end_ms and end_ms - clip.start_ms <= shortest_ms:
            return clip.dropped(Verdict.PAST_END)
        num_samples = round((end_ms - clip.start_ms) * rate / 1000)
        audio = pcm[2 * first : 2 * (first + num_samples)]
        rms_dbfs, peak_dbfs = levels(audio)
        return replace(
            clip,
            end_ms=end_ms,
            audio=audio,
            sample_rate_hz=rate,
            num_samples=num_samples,
            rms_dbfs=rms_dbfs,
            peak_dbfs=peak_dbfs,
        )


def _with_frames(clips: Sequence[Clip], path: str, timeout_s: float) -> list[Clip]:
    """Add the picture at its middle to every clip that has audio and no caption of a picture."""
    without_caption = [clip for clip in clips if clip.audio and not clip.video_caption]
    images = frames(path, [(clip.start_ms + clip.end_ms) // 2 for clip in without_caption], timeout_s)
    pictures = {clip.start_ms: picture for clip, picture in zip(without_caption, images, strict=True)}
    return [replace(clip, frame=pictures.get(clip.start_ms)) for clip in clips]


def _reads(clips: Sequence[Clip], join_ms: int) -> list[list[Clip]]:
    """Group clips into reads: neighbours closer than `join_ms` share one, up to `_LONGEST_JOINED_READ_MS`.

    Clips of one gap touch and share a read however long the gap is. Clips that a source brings may overlap.
    """
    groups: list[list[Clip]] = []
    end_ms = 0  # of the last group
    for clip in clips:
        near = groups and clip.start_ms - end_ms < join_ms
        touching = groups and clip.start_ms == end_ms
        end_ms = max(end_ms, clip.end_ms)
        if touching or (near and clip.end_ms - groups[-1][0].start_ms < _LONGEST_JOINED_READ_MS):
            groups[-1].append(clip)
        else:
            groups.append([clip])
    return groups
