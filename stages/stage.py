"""The contract of a stage, and the one loop that runs stages over videos.

Who adds a stage writes a file in this folder, with its settings (a `Section`) beside it, and then

- names its settings in `BuildConfig` (`pipeline/build/config.py`), and what they point to in `_digests` there;
- puts it in a pool (`pipeline/build/pools.py`);
- adds what it finds out to `Clip` or `Video` (`records.py`), to the tables of a dataset (`dataset/schemas.py`) and to a
  sample's JSON (`pipeline/build/bundle_writer.py`);
- gives each new way to end a reason (`reasons.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from autorecap.base.errors import FINISHED_WITH_FAILURES, ForeseenError
from autorecap.base.text import printable
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Video


class Stage(Protocol):
    """Takes videos that are still `ok` and returns the same videos in the same order, richer or with a final status.

    A stage never raises because of what a video holds: that becomes a reason in the record. It may raise in its
    constructor, where settings and files are checked before the work begins.
    """

    name: str

    def __call__(self, videos: Sequence[Video]) -> list[Video]: ...


class SickWorker(ForeseenError):
    """Every video breaks a stage in the same way: the process is at fault (a lost GPU, no memory), not the videos.

    It should be replaced. If it went on, it would spoil videos faster than the others can do them.
    """

    exit_code = FINISHED_WITH_FAILURES


def run_stages(stages: Sequence[Stage], videos: Sequence[Video]) -> list[Video]:
    """Run the stages one after the other. A video that has ended passes by; one that breaks a stage ends alone.

    Raises SickWorker where all of several videos break a stage in the same way.
    """
    done = list(videos)
    for stage in stages:
        at_work = [i for i, video in enumerate(done) if video.is_ok]
        if not at_work:
            break
        started = time.perf_counter()
        out = _run_or_isolate(stage, [done[i] for i in at_work])
        seconds = (time.perf_counter() - started) / len(at_work)
        for i, video in zip(at_work, out, strict=True):
            done[i] = replace(video, seconds={**video.seconds, stage.name: seconds})
    return done


class StageRunner:
    """Runs the same stages over block after block, and tells a sick process from videos that break a stage."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages, self.has_worked = stages, False

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        """Run the stages. Raises SickWorker where this process has worked before: a new one must do the videos."""
        try:
            done = run_stages(self.stages, videos)
        except SickWorker:
            if self.has_worked:
                raise
            # This process is new and fails as well, so it is the videos after all: each ends alone.
            return [done for video in videos for done in run_stages(self.stages, [video])]
        self.has_worked = True
        return done


def _run_or_isolate(stage: Stage, videos: list[Video]) -> list[Video]:
    try:
        return stage(videos)
    except Exception as error:  # a bug, or data that no stage foresaw: it may cost one video, never the batch
        if len(videos) == 1:
            return [_broken(stage, videos[0], error)]
    out, errors = [], []
    for video in videos:
        try:
            out += stage([video])
        except Exception as error:
            errors.append(error)
            out.append(_broken(stage, video, error))
    if len(errors) == len(videos) and len(set(map(type, errors))) == 1:
        message = f"stage {stage.name} failed at each of {len(videos)} videos: {_words(errors[-1])}"
        raise SickWorker(message) from errors[-1]
    return out


def _broken(stage: Stage, video: Video, error: Exception) -> Video:
    return video.ended(Reason.INTERNAL_ERROR, f"stage {stage.name}: {_words(error)}")


def _words(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}")
