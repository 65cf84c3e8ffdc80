"""What a plan will take: requests, hours, traffic, clips, GPU-hours, storage and, where prices are given, cost.

Until the dataset has videos enough of its own in the ledger, the paper's funnel is assumed. Every figure is a range.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autorecap.dataset.log import State
from autorecap.dataset.parquet import read_parquet
from autorecap.dataset.store import Store
from autorecap.dataset.view import DatasetView
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.plan.plan import files_of
from autorecap.stages.origin import WATCH_URL
from autorecap.stages.records import TO_THE_END

# The paper's funnel (appendix A), in millions.
_VIDEOS, _VIDEOS_WITH_GAPS, _CLIPS_CUT, _CLIPS_KEPT = 73, 55.1, 327.3, 57.0
WITH_GAPS = _VIDEOS_WITH_GAPS / _VIDEOS
CLIPS_PER_VIDEO = _CLIPS_CUT / _VIDEOS_WITH_GAPS
KEPT_SHARE = _CLIPS_KEPT / _CLIPS_CUT
KEPT_S = 7.8  # of a kept clip, on average
STILL_THERE = (0.6, 1.0)
"""Of a list's videos. The lists are from 2017 to 2023, and of the oldest about a third has gone."""
TRANSCRIPT_REQUESTS = (2.0, 2.0)  # player, timed text
MEDIA_REQUESTS = (3.0, 6.0)  # the player again, the container's index, the spans
PAGE_BYTES = (20_000.0, 100_000.0)  # of the two answers, compressed
CAPTION_S = 0.28
"""Per clip, on a GPU: what the paper states for ten seconds of audio, one clip at a time. Batches take less."""
FLAC_SHARE = (0.4, 0.7)  # of 16-bit PCM
BITRATE = (1.0, 2.0)
"""Of fetched audio, against `youtube.min_audio_kbps`: the cheapest format that is good enough may have more."""
_BYTES_PER_KBIT = 125.0
_BYTES_PER_SAMPLE = 2.0  # 16-bit PCM
ENOUGH_VIDEOS = 200
"""So many videos of its own, and a dataset's shares count instead of the paper's."""


@dataclass(frozen=True)
class Range:
    """The lowest and the highest value that the assumptions allow."""

    low: float
    high: float

    @classmethod
    def of(cls, bounds: tuple[float, float] | float) -> "Range":
        return cls(*bounds) if isinstance(bounds, tuple) else cls(bounds, bounds)

    def __mul__(self, other: "Range | float") -> "Range":
        factor = other if isinstance(other, Range) else Range.of(other)
        return Range(self.low * factor.low, self.high * factor.high)

    def __truediv__(self, other: "Range") -> "Range":
        """Divide bound by bound: what is counted is part of `other`, and nothing of nothing is nothing."""
        return Range(*(a / b if b else 0.0 for a, b in ((self.low, other.low), (self.high, other.high))))

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        low, high = _figure(self.low), _figure(self.high)
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Work:
    """The work that a plan still holds."""

    online: int = 0  # videos whose transcript decides
    online_given: int = 0  # videos that are fetched for clips that are known: given, or of a dataset of segments
    local: int = 0  # videos that are there, with a transcript beside them
    local_given: int = 0
    clips: int = 0  # known
    clips_to_caption: int = 0  # of those
    clips_to_filter: int = 0  # of those
    num_too_long: int = 0  # videos that bring more than media.max_clip_s_per_video
    whole_files: int = 0  # clips that are one, of a length that is not known yet
    clip_s: float = 0.0  # of the other clips that are known

    @property
    def videos(self) -> int:
        return self.online + self.online_given + self.local + self.local_given


@dataclass(frozen=True)
class Shares:
    """The yield of a video whose transcript decides, on average over all that a list names."""

    basis: str  # for people
    basis_there: str  # of the second figure alone
    there: Range  # can be reached
    with_gaps: Range
    clips: Range  # cut
    kept: Range
    kept_s: Range  # of one kept clip
    caption_s: Range  # of a captioner, for one clip
    bytes_read: Range | None = None  # by one video; None: to be put together from what is assumed of its parts


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices in any one currency; None: not given, and not part of the cost."""

    gpu_hour: float | None = None
    gb_traffic: float | None = None
    gb_stored: float | None = None  # per month


@dataclass(frozen=True)
class Estimate:
    """The figures of a plan."""

    work: Work
    basis: str
    requests: Range
    requests_per_s: float
    hours: Range  # at that rate, were requests all that takes time
    traffic_gb: Range
    clips: Range
    kept: Range
    kept_hours: Range
    gpu_hours: Range
    caption_s: Range
    stored_gb: Range
    cost: Range | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the figures as lines for people."""
        w = self.work
        parts = (
            (w.online, "to be searched for gaps online"),
            (w.online_given, "online whose clips are known"),
            (w.local, "here"),
            (w.local_given, "here whose clips are known"),
        )
        yield f"to do: {w.videos} videos ({', '.join(f'{count} {what}' for count, what in parts if count) or 'none'})"
        if not w.videos:
            return
        if self.basis:
            yield f"  assumed: {self.basis}"
        if self.requests.high:
            yield f"  requests: {self.requests}, at {self.requests_per_s:g} a second {_duration(self.hours)}"
            yield f"  traffic: {self.traffic_gb} GB"
        yield f"  clips: {self.clips} cut, {self.kept} kept, {self.kept_hours} hours of audio"
        yield f"  captions: {self.gpu_hours} GPU-hours, at {self.caption_s} s a clip"
        yield f"  storage: {self.stored_gb} GB"
        if w.whole_files:
            yield f"  without the length of {w.whole_files} whole files, which is not known yet"
        if w.num_too_long:
            yield (
                f"  {w.num_too_long} videos bring more clips than media.max_clip_s_per_video seconds: the rest is left "
                "out, and counted in the ledger"
            )
        if self.cost:
            yield f"  cost: {self.cost} by the prices given"


def estimate(work: Work, config: BuildConfig, shares: Shares, prices: Prices) -> Estimate:
    """Estimate what the work takes with these settings, if a video yields what `shares` says."""
    online, given = Range.of(work.online), Range.of(work.online_given)
    searched = online + Range.of(work.local)
    with_audio = online * shares.with_gaps + given * shares.there
    requests = online * Range.of(TRANSCRIPT_REQUESTS) + with_audio * Range.of(MEDIA_REQUESTS)
    rate = config.youtube.budget.requests_per_s * len(config.youtube.egresses)
    there = shares.there if work.online_given else Range.of(1.0)
    clips = searched * shares.clips + Range.of(work.clips) * there
    filtered = work.clips_to_filter / max(1, work.clips)
    passing = Range.of(1 - filtered) + shares.kept / shares.clips * filtered
    kept = searched * shares.kept + Range.of(work.clips) * there * passing
    kept_s = searched * shares.kept * shares.kept_s + Range.of(work.clip_s) * there * passing
    to_caption = searched * shares.clips + Range.of(work.clips_to_caption) * there
    audio_s = online * shares.clips * shares.kept_s
    if work.online_given:
        audio_s = audio_s + Range.of(work.clip_s) * there
    audio_bytes = audio_s * (config.youtube.min_audio_kbps * _BYTES_PER_KBIT) * Range.of(BITRATE)
    traffic = online * Range.of(PAGE_BYTES) + audio_bytes
    if shares.bytes_read and not work.online_given:
        traffic = online * shares.bytes_read
    traffic_gb = traffic * 1e-9
    gpu_hours = to_caption * shares.caption_s * (1 / 3600)
    stored_gb = kept_s * Range.of(FLAC_SHARE) * (_BYTES_PER_SAMPLE * config.media.sample_rate_hz * 1e-9)
    cost = [
        amount * price
        for amount, price in (
            (gpu_hours, prices.gpu_hour),
            (traffic_gb, prices.gb_traffic),
            (stored_gb, prices.gb_stored),
        )
        if price is not None
    ]
    basis = shares.basis if work.online or work.local else shares.basis_there if work.online_given else ""
    return Estimate(
        work,
        basis,
        requests,
        rate,
        requests * (1 / rate / 3600),
        traffic_gb,
        clips,
        kept,
        kept_s * (1 / 3600),
        gpu_hours,
        shares.caption_s,
        stored_gb,
        sum(cost[1:], cost[0]) if cost else None,
    )


def of_paper() -> Shares:
    """Return the shares of the paper's funnel, for lists of which nothing, or a part, has gone since."""
    there = Range.of(STILL_THERE)
    basis_there = f"{STILL_THERE[0]:.0%} to {STILL_THERE[1]:.0%} of the listed videos are still there"
    return Shares(
        f"the paper's funnel ({100 * WITH_GAPS:.1f} % of videos with gaps, {CLIPS_PER_VIDEO:.1f} clips each, "
        f"{100 * KEPT_SHARE:.1f} % of them kept, {KEPT_S:.1f} s long); {basis_there}",
        basis_there,
        there,
        there * WITH_GAPS,
        there * (WITH_GAPS * CLIPS_PER_VIDEO),
        there * (WITH_GAPS * CLIPS_PER_VIDEO * KEPT_SHARE),
        Range.of(KEPT_S),
        Range.of(CAPTION_S),
    )


def measured(url: str) -> Shares | None:
    """Measure the shares of the dataset's own videos; None where these are too few. Ranges are two standard errors."""
    row = DatasetView(url, with_clips=False).rows(
        "select count(*) as n, avg((status <> 'failed')::int) as there, avg((num_gaps > 0)::int) as gaps, "
        "avg(num_clips) as clips, stddev_samp(num_clips) as clips_sd, avg(num_kept) as kept, "
        "stddev_samp(num_kept) as kept_sd, sum(kept_ms) / 1000 / nullif(sum(num_kept), 0) as kept_s, "
        "avg(bytes_read) as bytes, stddev_samp(bytes_read) as bytes_sd, "
        # `seconds` is per video; what was left out, or silent, was not captioned
        "sum(seconds['captions']) / nullif(sum(num_clips - num_left_out - num_silent) "
        "filter (seconds['captions'] is not null), 0) as caption_s "
        "from videos where status <> 'retry'"
    )[0]
    n = row["n"]
    if n < ENOUGH_VIDEOS:
        return None

    def near(mean: float, deviation: float, most: float = float("inf")) -> Range:
        error = 2 * deviation / n**0.5
        return Range(max(0.0, mean - error), min(most, mean + error))

    def share(mean: float) -> Range:
        return near(mean, (mean * (1 - mean)) ** 0.5, 1.0)

    basis = f"the shares of the {n} videos that this dataset has handled, two standard errors either way"
    return Shares(
        basis,
        basis,
        share(row["there"]),
        share(row["gaps"]),
        near(row["clips"], row["clips_sd"]),
        near(row["kept"], row["kept_sd"]),
        Range.of(float(row["kept_s"] or KEPT_S)),
        Range.of(float(row["caption_s"] or CAPTION_S)),
        near(row["bytes"], row["bytes_sd"]) if row["bytes"] else None,
    )


def work_left(store: Store, state: State, config: BuildConfig) -> Work:
    """Count what the plan's unfinished rows are, one file at a time."""
    total = np.zeros(len(fields(Work)))
    for name, first, here in files_of(state, state.unfinished(time.time())):
        table = read_parquet(store, name)
        to_do = np.zeros(len(table), bool)
        for a, b in here.ranges:
            to_do[a - first : b - first] = True
        total += _work_in(table, to_do, config.media.max_clip_s_per_video)
    counts = {field.name: int(count) for field, count in zip(fields(Work), total, strict=True)}
    return Work(**counts | {"clip_s": float(total[-1])})  # type: ignore[arg-type]


def _work_in(table: pa.Table, to_do: np.ndarray, max_clip_s: float) -> np.ndarray:
    """Return the fields of `Work` for the rows of one file that are to be done."""
    online = pc.starts_with(table["media"], WATCH_URL).to_numpy()
    if "given" not in table.schema.names:  # a file without the column holds no clips
        return np.array([(to_do & online).sum(), 0, (to_do & ~online).sum(), *[0] * (len(fields(Work)) - 3)])
    given = table["given"].to_numpy()
    known = pc.greater(pc.list_value_length(table["clips"]), 0).to_numpy()
    listed = table["clips"].filter(pa.array(to_do & known)).combine_chunks()
    clips = listed.flatten()
    length_ms = pc.max_element_wise(pc.subtract(clips.field("end_ms"), clips.field("start_ms")), 0).to_numpy()
    offsets = np.cumsum(np.append(0, pc.list_value_length(listed).to_numpy()))
    total_ms = np.append(0, np.cumsum(length_ms))
    per_video_ms = total_ms[offsets[1:]] - total_ms[offsets[:-1]]
    return np.array(
        [
            (to_do & online & ~known).sum(),
            (to_do & online & known).sum(),
            (to_do & ~online & ~known).sum(),
            (to_do & ~online & known).sum(),
            len(clips),
            pc.sum(pc.equal(clips.field("caption"), "")).as_py() or 0,
            pc.sum(pc.list_value_length(table["clips"].filter(pa.array(to_do & known & ~given)))).as_py() or 0,
            (per_video_ms > max_clip_s * 1000).sum(),
            pc.sum(pc.equal(clips.field("end_ms"), TO_THE_END)).as_py() or 0,
            length_ms.sum() / 1000,
        ]
    )


def _duration(hours: Range) -> str:
    for at_least_h, unit in ((48, "days"), (1, "hours"), (1 / 60, "minutes")):
        if hours.high >= at_least_h:
            return f"{hours * _PER_HOUR[unit]} {unit}"
    return f"{hours * 3600} seconds"


_PER_HOUR = {"days": 1 / 24, "hours": 1.0, "minutes": 60.0}


def _figure(value: float) -> str:
    """Write a value with the two or three digits that mean something."""
    for size, unit in ((1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
