"""The driver of a build: plan what is new, run passes, commit what the writers propose.

The driver is the only one that commits. It may be killed at any moment: what is committed stays, what is not is done
again by the next build, which reads the log and goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from autorecap.base.errors import BAD_USAGE, DONE, FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError, Refused
from autorecap.dataset.fingerprint import explain_difference, fingerprint
from autorecap.dataset.log import CLIPS, SEGMENTS, Log, State, state_to_extend
from autorecap.dataset.publish import WriteFailed
from autorecap.dataset.row_set import RowSet
from autorecap.dataset.store import Store, open_store
from autorecap.pipeline.build.bundle_writer import Proposal
from autorecap.pipeline.build.config import BuildConfig, identity
from autorecap.pipeline.build.run_events import RunEvents, library_versions
from autorecap.pipeline.plan.plan import Found, Source, append_found, read_rows
from autorecap.stages.media_files.ffmpeg import ffmpeg_exe
from autorecap.stages.reasons import Status

_LEAST_FREE_BYTES = 16_000_000
"""On a disk with less even a small build would soon stop for lack of space."""
_CLIP_BYTES = 250_000  # of a kept clip as FLAC, about
_REFUSED_ALONE_S = 30.0
"""Seconds before a video is tried again that was refused while another egress was open."""


class Flow(Protocol):
    """Runs passes: on a cluster, or in this process (`LocalFlow`)."""

    libraries: tuple[str, ...]
    """Packages that only this flow needs: the run's events name their versions."""

    def run(self, rows: list[pa.Table]) -> Iterator[Proposal]:
        """Run one pass: rows of the plan go in, proposals to the driver come out, in order."""
        ...

    def counts(self) -> dict[str, int]:
        """Return how many videos have left each pool so far, for progress."""
        ...


@dataclass(frozen=True)
class Job:
    """A build that has been checked and may start."""

    store: Store
    config: BuildConfig
    kind: str
    settings: dict[str, Any]
    found: Found | None  # what the source holds that is not in the plan yet
    state: State
    accept_settings: bool

    @property
    def num_new(self) -> int:
        return self.found.num_new if self.found else 0

    @property
    def has_work(self) -> bool:
        return bool(self.num_new) or bool(len(self.state.unfinished(time.time())))

    def check(self, state: State) -> None:
        """Refuse to go on with other settings, unless they are accepted. Raises Refused."""
        untouched = not len(state.done) and not state.retry
        if state.fingerprint != fingerprint(self.settings) and not (untouched or self.accept_settings):
            raise Refused(
                f"{self.store.url} was built with other settings:\n"
                f"{explain_difference(state.settings, self.settings)}\n"
                "Use the old settings, another --out, or --accept-settings to go on with the new ones."
            )


@dataclass
class Outcome:
    """The result of a run so far."""

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)  # videos that are done, by status, and their clips
    waiting: int = 0  # videos that a later run will try again
    left: int = 0  # those of them that this run has tried
    parked: int = 0  # videos that wait for an egress to open, and until when (Unix time)
    parked_until: float | None = None
    exit_code: int = DONE

    def failed_share(self) -> float:
        """Return the share of failed videos among those that this run has tried."""
        return (self.counts[Status.FAILED] + self.left) / max(1, self.counts["videos"] + self.left)


def prepare(
    source: Source | None, out: str, config: BuildConfig, *, kind: str = CLIPS, accept_settings: bool = False
) -> Job:
    """Check everything that can be checked before the work, and find what there is to do.

    `source`: what to plan from; None: the plan holds all. `kind`: of the dataset, clips or segments.
    Raises ForeseenError, above all Refused when the dataset was built with other settings
    and `accept_settings` is not given.
    """
    store = open_store(out)
    state = state_to_extend(store, kind)
    settings = identity(config, until_segments=kind == SEGMENTS)
    if source is None and store.is_empty():
        raise ForeseenError(f"{store.url} is empty: name what to build from, --videos or --lists, or plan it first")
    found = source.find(store, state) if source else None
    job = Job(store, config, kind, settings, found, state, accept_settings)
    job.check(state)
    _check_machine(store)
    return job


def _check_machine(store: Store) -> None:
    try:
        ffmpeg_exe()
    except RuntimeError as error:
        raise ForeseenError(f"no ffmpeg: {error}; put one on PATH") from error
    free = store.free_bytes()
    if free is not None and free < _LEAST_FREE_BYTES:
        raise ForeseenError(
            f"{store.url}: {free / 1e6:.1f} MB free; a build needs at least {_LEAST_FREE_BYTES / 1e6:g} MB and "
            f"{_CLIP_BYTES / 1e6:g} MB per clip"
        )
    try:
        with store.scratch() as path:
            path.write_bytes(b"")
    except OSError as error:
        raise ForeseenError(f"{store.url} cannot be written to: {error.strerror}") from error


def run(
    job: Job,
    flow: Flow,
    report: Callable[[Outcome, int], None],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> Outcome:
    """Do the job. `report(outcome so far, videos of this run)` is called after every commit, and before a wait.

    Raises Fenced when another driver has taken over, and WriteFailed when the store cannot take a shard.
    """
    started = time.monotonic()
    hashed = fingerprint(job.settings)
    log = Log.begin(job.store, kind=job.kind, fingerprint=hashed, settings=job.settings, check=job.check)
    events = RunEvents(job.store, log.state.epoch)
    versions = library_versions(flow.libraries)
    events.add("start", epoch=log.state.epoch, config=asdict(job.config), new=job.num_new, versions=versions)
    job.store.sweep()
    outcome = Outcome()
    try:
        if job.found is not None:
            append_found(log, job.found)
        total = len(log.state.unfinished(clock()))
        report(outcome, total)
        parked, tried = _Parked(), RowSet()
        while True:
            now = clock()
            parked.release(now)
            unfinished = log.state.unfinished(now)
            rows = (unfinished - parked.rows).first(_pass_videos(job.config))
            if not rows.ranges or parked.is_shut(now):
                if parked.until is None:
                    break
                outcome.parked, outcome.parked_until = len(unfinished), parked.until
                events.add("parked", videos=outcome.parked, until=parked.until)
                events.flush()
                report(outcome, total)
                sleep(max(0.0, parked.until - clock()))
                outcome.parked, outcome.parked_until = 0, None
                continue
            for proposal in flow.run(list(read_rows(job.store, log.state, rows, parked.refusals))):
                parked.add(proposal, clock())
                if not (proposal.add or proposal.done or proposal.retry):
                    continue
                _check_visible(job.store, proposal)
                log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)
                outcome.counts.update(proposal.summary)
                outcome.seconds = time.monotonic() - started
                outcome.waiting = len(log.state.retry)
                events.add("commit", seq=log.state.next_seq - 1, **proposal.summary)
                report(outcome, total)
            tried |= rows
            handled = log.state.done | RowSet.of_rows(log.state.retry) | parked.rows
            if lost := rows - handled:
                raise RuntimeError(f"{len(lost)} videos went in and never came out, from plan row {lost.ranges[0][0]}")
        to_retry = RowSet.of_rows(log.state.retry)
        outcome.left = len(to_retry) - len(to_retry - tried)
        if outcome.failed_share() > job.config.max_failed_share:
            outcome.exit_code = FINISHED_WITH_FAILURES
    except BaseException as error:
        outcome.exit_code = _exit_code(error)
        events.add("stopped", error=f"{type(error).__name__}: {error}"[:1000])
        raise
    finally:
        outcome.seconds = time.monotonic() - started
        outcome.waiting = len(log.state.retry)
        events.add(
            "end",
            seconds=round(outcome.seconds, 1),
            waiting=outcome.waiting,
            exit_code=outcome.exit_code,
            **outcome.counts,
        )
        events.flush()
    return outcome


class _Parked:
    """Rows that wait for an egress to open. The log does not know of them: they have not been tried."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, RowSet]] = []  # until when, which rows
        self._shut_until = 0.0  # no egress is open before
        self.refusals: dict[int, int] = {}  # of rows that were asked for, in this run

    def add(self, proposal: Proposal, now: float) -> None:
        if proposal.parked:
            until = proposal.parked_until or now + _REFUSED_ALONE_S
            self._waiting.append((until, RowSet(proposal.parked)))
            self._shut_until = max(self._shut_until, proposal.parked_until or 0.0)
            self.refusals.update(proposal.refusals)

    def release(self, now: float) -> None:
        """Forget those whose time has come."""
        self._waiting = [(until, rows) for until, rows in self._waiting if until > now]

    def is_shut(self, now: float) -> bool:
        """Return whether every egress is parked: the videos of another pass would only come back."""
        return self._shut_until > now

    @property
    def rows(self) -> RowSet:
        return RowSet.of(piece for _, rows in self._waiting for piece in rows.ranges)

    @property
    def until(self) -> float | None:
        """Unix time at which the first row may be requested again; None where none waits."""
        first = min((until for until, _ in self._waiting), default=None)
        return None if first is None else max(first, self._shut_until)


def _pass_videos(config: BuildConfig) -> int:
    """Return how many videos a pass takes: whole bundles, so that its end does not move the borders of shards."""
    size = config.writer.videos_per_shard
    return max(size, config.pools.pass_videos // size * size)


def _check_visible(store: Store, proposal: Proposal) -> None:
    """Look for the proposed files: a worker elsewhere may have written to a disk of its own. Raises WriteFailed."""
    for file in proposal.add:
        if not store.exists(file.name):
            raise WriteFailed(
                f"a worker wrote {file.name}, and it is not in {store.url} as seen from the driver: "
                "--out must be a place that all nodes share, such as s3://"
            )


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, ForeseenError):
        return error.exit_code
    return BAD_USAGE if isinstance(error, OSError) else FINISHED_WITH_FAILURES
