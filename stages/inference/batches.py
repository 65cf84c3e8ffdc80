"""Groups clips of several videos into batches for a model, and puts them back into their videos."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from autorecap.stages.records import Clip, Video

At = tuple[int, int]
"""The place of a clip: index of its video, and its index in that video."""


def groups(videos: Sequence[Video], wanted: Callable[[Clip], bool], *, across_videos: bool) -> Iterator[list[At]]:
    """Yield groups of clips that `wanted` accepts, none of them empty; a model may cut them into batches as it likes.

    Kernels give a clip other last bits in another batch. On a CPU a group is one video, so what a model says of a clip
    depends on its video alone and builds are reproducible; a GPU is only busy with full batches, so there a group is
    all videos at hand.
    """
    by_video = [[(v, c) for c, clip in enumerate(video.clips) if wanted(clip)] for v, video in enumerate(videos)]
    yield from filter(None, [list(chain.from_iterable(by_video))] if across_videos else by_video)


def with_clips(videos: Sequence[Video], changed: Mapping[At, Clip]) -> list[Video]:
    """Return the videos with the changed clips in place of the old ones."""
    return [
        replace(video, clips=tuple(changed.get((v, c), clip) for c, clip in enumerate(video.clips)))
        for v, video in enumerate(videos)
    ]
