"""Builds from lists of online videos, without Ray: the driver, real clients and a fake YouTube on loopback.

Also proves pipeline/build/segments_writer.py, and pipeline/plan/segments_source.py, which reads what that has written.
"""

import time
from collections import Counter
from pathlib import Path

import pytest

from autorecap.dataset.log import SEGMENTS, read_state
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.pipeline.build.config import BuildConfig, load_config
from autorecap.pipeline.build.driver import Outcome, prepare, run
from autorecap.pipeline.plan.sources import ListSource, of_build
from autorecap.stages.segments import Segments
from autorecap.stages.stage import Stage
from autorecap.stages.transcripts import Transcripts
from autorecap.stages.youtube.budget import BudgetConfig, LocalBudget
from autorecap.stages.youtube.client import Youtube
from tests.fakes.clock import FakeClock
from tests.fakes.youtube import MISHAPS, FakeVideo, FakeYouTube, running
from tests.fakes.youtube.videos import OF_THE_EGRESS
from tests.support.flows import WatchedFlow

HOUR_S = 3_600
REASONS = {
    "": "",
    "private": "private",
    "deleted": "deleted",
    "terminated": "deleted",
    "age": "age_restricted",
    "geo": "geo_blocked",
    "members": "members_only",
    "live": "live",
    "upcoming": "upcoming",
    "no_captions": "no_transcript",
    "no_english": "no_transcript_in_language",
    "po_token": "po_token_required",
    "consent": "",
    "empty": "bad_answer",
    "truncated": "bad_answer",
    "html": "bad_answer",
    "drip": "timeout",
    "reset": "network",
    "wrong_length": "network",
    "error_500": "network",
    # an egress is refused, once: the video is done when it opens again
    "429": "",
    "429_retry_after": "",
    "captcha": "",
    "bot": "",
}
"""How a video of each mishap ends that befalls transcripts."""


def videos_of(count: int) -> dict[str, FakeVideo]:
    """So many of each mishap, mixed."""
    return {
        f"v{number:04d}-{kind:05d}": FakeVideo(title=name, mishap=name, times=2 if name in OF_THE_EGRESS else None)
        for number in range(count)
        for kind, name in enumerate(REASONS)
    }


def listed(tmp_path: Path, ids) -> str:
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(ids) + "\n")
    return f"ids={path}"


class Build:
    """One build until segments on a clock of its own."""

    def __init__(self, fake: FakeYouTube, tmp_path: Path, **settings) -> None:
        told = {
            "youtube.base_url": fake.url,
            "youtube.request_timeout_s": 3,
            "writer.videos_per_shard": 16,
            **settings,
        }
        self.config: BuildConfig = load_config(None, [f"{name}={value}" for name, value in told.items()])
        self.clock = FakeClock(time.time())
        self.out, self.list = str(tmp_path / "out"), listed(tmp_path, fake.videos)
        self.waits: list[float] = []
        self.seen: list[str] = []  # videos that have gone through the stages, as often as they have
        egresses = list(self.config.youtube.egresses_by_name())
        self.budget = LocalBudget(self.config.youtube.budget, egresses, self.clock)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.sleep(seconds)

    def run(self) -> Outcome:
        rules = self.config.transcripts
        youtube = Youtube(
            self.config.youtube, rules, 32_000, self.budget, in_flight=8, clock=self.clock, sleep=self.clock.sleep
        )
        job = prepare(ListSource([self.list]), self.out, self.config, kind=SEGMENTS)
        stages: list[Stage] = [Transcripts(rules, youtube), Segments(self.config.segments)]
        flow = WatchedFlow(self.config, job.store, stages, until_segments=True)
        flow.seen = self.seen
        return run(job, flow, lambda outcome, total: None, clock=self.clock, sleep=self.sleep)

    def ledger(self) -> dict[str, dict]:
        rows = DatasetView(self.out).rows("select video_id, status, reason, attempt, title from videos")
        assert max(Counter(row["video_id"] for row in rows).values()) == 1
        return {row["video_id"]: row for row in rows}


def test_every_mishap_ends_in_the_ledger_with_its_reason_and_no_video_is_lost(tmp_path):
    assert set(REASONS) - {""} <= set(MISHAPS)
    videos = videos_of(1)
    with running(videos) as fake:
        build = Build(fake, tmp_path)
        outcome = build.run()
    ledger = build.ledger()
    assert ledger.keys() == videos.keys()
    assert {name: ledger[name]["reason"] for name in videos} == {name: REASONS[v.mishap] for name, v in videos.items()}
    assert outcome.counts["ok"] == sum(not REASONS[video.mishap] for video in videos.values())
    assert outcome.waiting == sum(row["status"] == "retry" for row in ledger.values())


@pytest.mark.parametrize(("mishap", "reason"), [("captcha", "ip_blocked"), ("bot", "bot_check")])
def test_a_video_that_is_answered_by_refusals_alone_is_left_to_a_later_run(tmp_path, mishap, reason):
    videos = {f"video{number:06d}": FakeVideo() for number in range(20)} | {"poisonvideo": FakeVideo(mishap=mishap)}
    with running(videos) as fake:
        build = Build(fake, tmp_path)
        outcome = build.run()
        ledger = build.ledger()
        assert ledger.keys() == videos.keys()
        assert (outcome.counts["ok"], outcome.waiting) == (20, 1)
        poison = ledger["poisonvideo"]
        assert (poison["status"], poison["reason"], poison["attempt"]) == ("retry", reason, 0)
        assert sum(build.waits) < 2 * HOUR_S
        videos["poisonvideo"] = FakeVideo()
        assert build.run().waiting == 1, "not within a day"
        build.clock.sleep(24 * HOUR_S)
        build.run()
        assert build.ledger()["poisonvideo"]["status"] == "ok"


def test_a_block_of_an_hour_parks_the_build_which_then_goes_on_and_charges_nobody(tmp_path):
    videos = {f"video{number:06d}": FakeVideo() for number in range(40)}
    with running(videos) as fake:
        build = Build(fake, tmp_path, **{"youtube.budget.park_s": HOUR_S, "youtube.budget.max_park_s": 2 * HOUR_S})
        blocked_at = build.clock.now
        fake.refusal = lambda seen: "captcha" if build.clock.now < blocked_at + HOUR_S else ""
        build.run()
        asked_in_the_block = len(fake.asked("player")) + len(fake.asked("watch")) - len(videos)
    assert build.waits and max(build.waits) == pytest.approx(HOUR_S, abs=60)
    assert asked_in_the_block <= 8, "what was under way, and nobody else"
    ledger = build.ledger()
    assert ledger.keys() == videos.keys()
    assert {(row["status"], row["attempt"]) for row in ledger.values()} == {("ok", 0)}
    state = read_state(open_store(build.out))
    assert len(state.done) == 40 and not state.retry, "the log knows nothing of videos that were not tried"


def test_while_every_egress_is_parked_no_further_pass_is_begun(tmp_path):
    """A plan of millions would else go through the workers again and again, each video only to come back."""
    videos = {f"video{number:06d}": FakeVideo() for number in range(64)}
    with running(videos) as fake:
        build = Build(fake, tmp_path, **{"pools.pass_videos": 16, "youtube.budget.park_s": HOUR_S})
        blocked_at = build.clock.now
        fake.refusal = lambda seen: "captcha" if build.clock.now < blocked_at + HOUR_S else ""
        build.run()
    assert build.waits == [pytest.approx(HOUR_S, abs=60)]
    assert len(build.seen) == 16 + len(videos), "one pass was refused; then each video once"
    assert len(build.ledger()) == len(videos)


def test_a_build_that_is_stopped_while_it_waits_loses_nothing(tmp_path):
    videos = {f"video{number:06d}": FakeVideo() for number in range(20)}
    with running(videos) as fake:
        build = Build(fake, tmp_path)
        fake.refusal = lambda seen: "bot"

        def interrupt(seconds: float) -> None:
            raise KeyboardInterrupt

        build.sleep, sleep = interrupt, build.sleep  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            build.run()
        assert not len(read_state(open_store(build.out)).done)
        fake.refusal = lambda seen: ""
        build.sleep = sleep  # type: ignore[method-assign]
        build.clock.sleep(24 * HOUR_S)
        build.run()
    assert {row["status"] for row in build.ledger().values()} == {"ok"}
    assert len(build.ledger()) == 20


def test_one_egress_that_is_refused_leaves_the_work_to_the_others(tmp_path):
    videos = {f"video{number:06d}": FakeVideo() for number in range(30)}
    with running(videos, num_doors=3) as fake:
        build = Build(fake, tmp_path, **{"youtube.egresses": f"[{fake.door(1)}, {fake.door(2)}]"})
        fake.refusal = lambda seen: "captcha" if seen.door == fake.doors[1] else ""
        build.run()
        asked = Counter(seen.door for seen in fake.requests)
    assert {row["status"] for row in build.ledger().values()} == {"ok"} and not build.waits
    assert asked[fake.doors[2]] == 1 + 2 * len(videos) and asked[fake.doors[1]] <= 8


def test_what_fails_for_a_moment_comes_again_in_a_later_run_up_to_a_limit(tmp_path):
    videos = {"alwaysEmpty": FakeVideo(mishap="empty"), "emptyBefore": FakeVideo(mishap="empty", times=4)}
    with running(videos) as fake:
        build = Build(fake, tmp_path, **{"writer.retry_after_s": 0, "writer.max_attempts": 3})
        outcomes = []
        for _ in range(4):
            outcomes.append(build.run())
            build.clock.sleep(HOUR_S)
    ledger = build.ledger()
    assert (ledger["emptyBefore"]["status"], ledger["alwaysEmpty"]["status"]) == ("ok", "failed")
    assert ledger["alwaysEmpty"]["reason"] == "bad_answer" and ledger["alwaysEmpty"]["attempt"] == 2


def test_the_server_never_sees_more_requests_than_the_budget_allows(tmp_path):
    rate, burst = 100, 10
    videos = {f"video{number:06d}": FakeVideo() for number in range(40)}
    with running(videos) as fake:
        settings = {"youtube.budget.requests_per_s": rate, "youtube.budget.burst": burst}
        build = Build(fake, tmp_path, **settings)
        build.budget = LocalBudget(BudgetConfig(requests_per_s=rate, burst=burst), ["direct"])
        build.clock.sleep = time.sleep  # type: ignore[assignment, method-assign]
        build.run()
        times = sorted(seen.at for seen in fake.requests)
    assert len(times) == 1 + 2 * len(videos)
    late_s = 0.25  # a request may reach the server later than it was sent, so two stretches may seem nearer
    for i, first in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= burst + (times[j] - first + late_s) * rate


def test_segments_that_were_stored_are_gone_on_with_and_transcripts_are_not_asked_for_again(tmp_path):
    videos = {f"video{number:06d}": FakeVideo() for number in range(5)} | {
        "allTalkHere": FakeVideo(mishap="no_captions")
    }
    with running(videos) as fake:
        build = Build(fake, tmp_path)
        build.run()
        asked = len(fake.requests)
        source = of_build(build.out, [])
        assert source is not None
        later = str(tmp_path / "later")
        job = prepare(source, later, build.config)
        assert job.num_new == 5, "those with gaps"
        rules = build.config.transcripts
        flow = WatchedFlow(build.config, job.store, [Transcripts(rules), Segments(build.config.segments)])
        run(job, flow, lambda outcome, total: None)
        assert len(fake.requests) == asked
        assert not prepare(of_build(build.out, []), later, build.config).has_work
    columns = "video_id, title, duration_ms, transcript_kind, num_cues, num_gaps, gap_ms, num_clips"
    query = f"select {columns} from videos where status = 'ok' order by video_id"
    assert DatasetView(later).rows(query) == DatasetView(build.out).rows(query)
    clips = DatasetView(build.out).rows("select key, duration_ms, title, caption from clips order by key limit 2")
    assert [clip["key"] for clip in clips] == ["video000000_15000_17000", "video000000_5000_15000"]
    assert clips[1] == {
        "key": "video000000_5000_15000",
        "duration_ms": 10_000,
        "title": "Rain on a roof",
        "caption": None,
    }


def test_a_dataset_of_one_kind_is_not_continued_as_another(tmp_path):
    with running({"video000000": FakeVideo()}) as fake:
        build = Build(fake, tmp_path)
        build.run()
    with pytest.raises(Exception, match="is a dataset of segments, and this is about clips: add --until segments"):
        prepare(None, build.out, build.config)
