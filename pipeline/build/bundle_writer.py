"""The writer of a build: publishes the files of one bundle of finished videos, and proposes the commit that names them.

Only the driver commits. What a writer that died has published is named by no commit and counts for nothing.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from autorecap.base.settings import Section, setting
from autorecap.dataset.log import File, Retry
from autorecap.dataset.publish import publish_shard, publish_table, writing
from autorecap.dataset.row_set import RowSet
from autorecap.dataset.schemas import INDEX_SCHEMA, LEDGER_SCHEMA
from autorecap.dataset.shard import Sample
from autorecap.dataset.store import Store
from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import Clip, Verdict, Video

_WAITED_FOR = {Reason.MEDIA_MISSING.code, Reason.TRANSCRIPT_MISSING.code, Reason.UPCOMING.code}
"""A folder that is not mounted must not use up the tries of its videos."""
_PARKING = {reason.code for reason in Reason if reason.parks}
_MAX_REFUSALS = 3
"""A video whose requests were refused so often in a run is left to a later run: with some, it is the video's fault."""
_SHORTEST_WAIT_S = 60
"""Seconds before what is missing is looked for again, however short `retry_after_s`: or one run would ask for ever."""
_LONGEST_WAIT_S = 86_400
"""A day: doubled waits grow no longer, and a video that parks an egress waits as long at once."""
_TAR_BYTES = 2_048  # of a sample in a shard, about: headers of 512 bytes for its two files, and their padding to 512


@dataclass(frozen=True, kw_only=True)
class WriterConfig(Section, name="writer"):
    """How shards are cut."""

    videos_per_shard: int = setting(1024, "Videos behind one shard (about 0.8 kept clips each in a mixed list).", ge=1)
    max_shard_bytes: int = setting(
        1_000_000_000, "A shard is closed before it grows beyond this many bytes.", ge=1_000_000
    )
    max_attempts: int = setting(3, "After so many tries a video that still wants a retry counts as failed.", ge=1)
    retry_after_s: int = setting(
        600, "A transient failure is tried again after this long, doubled with each try.", ge=0
    )


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A commit that a writer asks the driver to make."""

    add: tuple[File, ...]
    done: tuple[tuple[int, int], ...]
    retry: tuple[Retry, ...]
    summary: dict[str, int]  # for progress: videos that are done, by status, and their clips
    parked: tuple[tuple[int, int], ...] = ()
    """Rows that were not tried, since every egress is refused. Nothing is written of them; they stay unfinished."""
    parked_until: float | None = None  # Unix time, where it is known
    refusals: tuple[tuple[int, int], ...] = ()  # parked rows that were requested: row, refusals in this run

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Proposal":
        fields = json.loads(text)
        return cls(
            add=tuple(File(**file) for file in fields["add"]),
            done=tuple((first, end) for first, end in fields["done"]),
            retry=tuple(Retry(**entry) for entry in fields["retry"]),
            summary=fields["summary"],
            parked=tuple((first, end) for first, end in fields["parked"]),
            parked_until=fields["parked_until"],
            refusals=tuple((row, count) for row, count in fields["refusals"]),
        )


class BundleWriter:
    """Writes the videos of one bundle. Raises WriteFailed when the store cannot take them."""

    def __init__(self, config: WriterConfig, store: Store) -> None:
        self.config = config
        self.store = store

    def __call__(self, videos: Sequence[Video]) -> Proposal:
        with writing(self.store):
            return self._write(videos)

    def _write(self, videos: Sequence[Video]) -> Proposal:
        parked = [video for video in videos if _is_parked(video) and video.refusals < _MAX_REFUSALS]
        rows_parked = RowSet.of_rows(video.row for video in parked)
        videos = [self._given_up(video) for video in videos if video.row not in rows_parked]
        add, num_clips = self._write_clips(videos)
        retry = tuple(self._retry(video) for video in videos if video.status is Status.RETRY)
        if videos:
            ledger = pa.Table.from_pylist([ledger_row(video) for video in videos], LEDGER_SCHEMA)
            add.append(publish_table(self.store, "ledger", ledger, {"videos": len(videos)}))
        again = {entry.row for entry in retry}
        done = tuple((video.row, video.row + 1) for video in videos if video.row not in again)
        summary = Counter(str(video.status) for video in videos if video.row not in again)
        summary.update(videos=len(videos) - len(again), clips=num_clips)
        return Proposal(
            add=tuple(add),
            done=RowSet.of(done).ranges,
            retry=retry,
            summary=dict(summary),
            parked=rows_parked.ranges,
            parked_until=min((video.not_before for video in parked if video.not_before is not None), default=None),
            refusals=tuple((video.row, video.refusals) for video in parked if video.refusals),
        )

    def _write_clips(self, videos: Sequence[Video]) -> tuple[list[File], int]:
        """Publish the clips of the videos. Returns the files that hold them, and how many clips these are."""
        add: list[File] = []
        index: list[dict[str, Any]] = []
        for samples in _shards(videos, self.config.max_shard_bytes):
            files, rows = publish_shard(self.store, samples)
            add += files
            index += rows
        if index:
            table = pa.Table.from_pylist(index, INDEX_SCHEMA)
            add.append(publish_table(self.store, "index", table, {"clips": len(index)}))
        return add, len(index)

    def _given_up(self, video: Video) -> Video:
        """Return the video as failed, if it was tried often enough. What is merely missing is awaited without end."""
        tries = video.attempt + 1
        is_charged = video.status is Status.RETRY and video.reason not in _WAITED_FOR | _PARKING
        if not is_charged or tries < self.config.max_attempts:
            return video
        return replace(video, status=Status.FAILED, detail=f"given up after {tries} tries; {video.detail}")

    def _retry(self, video: Video) -> Retry:
        if video.reason in _PARKING:  # asking again has a price: it parks an egress
            return Retry(video.row, video.attempt, int(time.time()) + _LONGEST_WAIT_S)
        wait_s = min(self.config.retry_after_s * 2**video.attempt, _LONGEST_WAIT_S)
        if video.reason in _WAITED_FOR:
            wait_s = max(wait_s, _SHORTEST_WAIT_S)
        return Retry(video.row, video.attempt + 1, int(time.time()) + wait_s)


def _is_parked(video: Video) -> bool:
    return video.status is Status.RETRY and video.reason in _PARKING


def _shards(videos: Sequence[Video], max_bytes: int) -> Iterator[Iterator[Sample]]:
    """Yield the samples of each shard: those of the videos, cut by size."""
    samples: list[Sample] = []
    size = 0
    for video in videos:
        for clip in video.clips:
            if clip.verdict is Verdict.KEPT and video.is_ok:
                sample = sample_of(video, clip)
                weight = len(sample.payload) + len(sample.meta) + _TAR_BYTES
                if samples and size + weight > max_bytes:
                    yield iter(samples)
                    samples, size = [], 0
                samples.append(sample)
                size += weight
    if samples:
        yield iter(samples)


def sample_of(video: Video, clip: Clip) -> Sample:
    """Return the sample of a kept clip whose audio is FLAC."""
    key = f"{video.video_id}_{clip.start_ms}_{clip.end_ms}"
    assert clip.audio is not None, f"clip {key} has no audio"
    meta = {
        "key": key,
        "video_id": video.video_id,
        "original_name": video.original_name,
        "title": video.title,
        "start_ms": clip.start_ms,
        "end_ms": clip.end_ms,
        "caption": clip.caption,
        "original_caption": clip.original_caption,
        "description": video.description,
        "tags": list(clip.tags),
        "video_caption": clip.video_caption,
        "sample_rate_hz": clip.sample_rate_hz,
        "num_samples": clip.num_samples,
        "rms_dbfs": clip.rms_dbfs,
        "peak_dbfs": clip.peak_dbfs,
        "clap_score": clip.clap_score,
        "speech_probability": clip.speech_probability,
        "transcript_kind": video.transcript_kind,
        "transcript_language": video.transcript_language,
    }
    index = {
        "row": video.row,
        "source": video.source,
        "duration_ms": clip.duration_ms,
        **{name: meta[name] for name in INDEX_SCHEMA.names if name in meta},
    }
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Sample(key, clip.audio, text.encode("utf-8", "replace"), index)


def ledger_row(video: Video) -> dict[str, Any]:
    """Return what the ledger keeps of a video: everything but the audio and the text of the transcript."""
    verdicts = Counter(clip.verdict for clip in video.clips)
    kept = [clip for clip in video.clips if clip.verdict is Verdict.KEPT] if video.is_ok else []
    dropped = [clip for clip in video.clips if clip.verdict not in (Verdict.KEPT, Verdict.PENDING)]
    return {
        **{name: getattr(video, name) for name in LEDGER_SCHEMA.names if hasattr(video, name)},
        "seconds": list(video.seconds.items()),
        "num_left_out": verdicts[Verdict.LEFT_OUT] + verdicts[Verdict.PAST_END],
        "num_silent": verdicts[Verdict.SILENT],
        "num_joined": video.num_clips - len(video.clips),
        "num_keyword": verdicts[Verdict.KEYWORD],
        "num_low_score": verdicts[Verdict.LOW_SCORE],
        "num_kept": len(kept),
        "kept_ms": sum(clip.duration_ms for clip in kept),
        "dropped": [
            {
                "start_ms": clip.start_ms,
                "end_ms": clip.end_ms,
                "caption": clip.caption,
                "verdict": str(clip.verdict),
                "keyword": clip.keyword,
            }
            for clip in dropped
        ],
    }
