"""The merge stage: consecutive clips with identical captions become one longer clip (paper, A.2)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autorecap.stages.media_files.levels import levels
from autorecap.stages.origin import ClipsFrom
from autorecap.stages.records import Clip, Span, Verdict, Video


class Merge:
    """Joins clips that touch and have equal captions. Their audio was cut from one read, so joining it is exact.

    Clips that the source brings are not joined.
    """

    name = "merge"

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [replace(video, clips=tuple(_merged(video))) for video in videos]


def _merged(video: Video) -> list[Clip]:
    return without_repeats(video.clips) if video.origin.clips is ClipsFrom.SOURCE else merge_clips(video.clips)


def without_repeats(clips: Sequence[Clip]) -> list[Clip]:
    """Drop clips whose span came before: where the audio ends, two clips with one start can become the same."""
    spans: dict[Span, Clip] = {}
    for clip in clips:
        spans.setdefault((clip.start_ms, clip.end_ms), clip)
    return list(spans.values())


def merge_clips(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips, in order, with every run of touching clips that have equal captions joined into one."""
    merged: list[list[Clip]] = []
    for clip in clips:
        if merged and _continues(merged[-1][-1], clip):
            merged[-1].append(clip)
        else:
            merged.append([clip])
    return [_joined(run) for run in merged]


def _continues(before: Clip, clip: Clip) -> bool:
    return (
        before.end_ms == clip.start_ms
        and before.verdict is clip.verdict is Verdict.PENDING
        and before.caption == clip.caption != ""  # captions of the picture may differ
    )


def _joined(run: list[Clip]) -> Clip:
    if len(run) == 1:
        return run[0]
    audio = b"".join(clip.audio or b"" for clip in run)
    rms_dbfs, peak_dbfs = levels(audio)
    return replace(
        run[0],
        end_ms=run[-1].end_ms,
        audio=audio,
        video_caption="; ".join(dict.fromkeys(clip.video_caption for clip in run if clip.video_caption)),
        clap_audio=_mean_clap(run),
        num_samples=sum(clip.num_samples for clip in run),
        rms_dbfs=rms_dbfs,
        peak_dbfs=peak_dbfs,
    )


def _mean_clap(run: Sequence[Clip]) -> bytes | None:
    """Return the mean of CLAP's vectors, weighted by duration and not scaled to unit length again.

    So its product with a caption's vector is the mean of the parts' scores by duration, and a long clip gets no better
    score for being long.
    """
    vectors = [np.frombuffer(clip.clap_audio, "<f4") for clip in run if clip.clap_audio]
    if len(vectors) < len(run):
        return None
    return np.average(vectors, axis=0, weights=[clip.duration_ms for clip in run]).astype("<f4").tobytes()
