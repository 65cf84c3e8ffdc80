"""What a plan is said to take: the paper's funnel, a dataset's own shares, and what limits leave out."""

import json
from dataclasses import replace

import pytest

from autorecap.dataset.log import Log, read_state
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, WriterConfig
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.estimate import (
    ENOUGH_VIDEOS,
    Prices,
    Range,
    Work,
    estimate,
    measured,
    of_paper,
    work_left,
)
from autorecap.stages.reasons import Reason
from autorecap.stages.records import TO_THE_END, Clip, Verdict, Video
from autorecap.stages.youtube.ids import watch_url
from tests.support.datasets import append_plan

CONFIG = load_config(None, ["youtube.budget.requests_per_s=2"])


def test_the_paper_s_list_gives_the_paper_s_figures_at_the_upper_end():
    told = estimate(Work(online=73_000_000), CONFIG, of_paper(), Prices())
    assert told.clips.high == pytest.approx(327.3e6) and told.kept.high == pytest.approx(57e6)
    assert told.kept_hours.high == pytest.approx(123_500, rel=0.001)
    assert told.gpu_hours.high == pytest.approx(25_457, rel=0.001)
    assert told.clips.low < told.clips.high and told.cost is None


def test_hours_follow_the_requests_and_the_budget_of_all_egresses():
    one = estimate(Work(online=7_200), CONFIG, of_paper(), Prices())
    assert one.requests_per_s == 2 and one.hours.high == pytest.approx(one.requests.high / 7_200)
    three = load_config(None, ["youtube.egresses=[direct, 'http://a:1', 'http://b:1']"])
    assert estimate(Work(online=7_200), three, of_paper(), Prices()).hours.high == pytest.approx(one.hours.high / 3)


def test_released_clips_cost_no_captions_and_local_files_no_requests():
    released = estimate(Work(online_given=10, clips=30, clip_s=240), CONFIG, of_paper(), Prices())
    assert released.gpu_hours == Range(0, 0) and released.requests.high == 60
    assert (released.kept.low, released.kept.high) == (18, 30)
    audio_set = estimate(Work(local_given=10, clips=10, clips_to_caption=10), CONFIG, of_paper(), Prices())
    assert audio_set.requests == Range(0, 0) and audio_set.kept == Range(10, 10)
    assert audio_set.gpu_hours.high == pytest.approx(10 * 0.28 / 3600)
    assert not any("requests" in line or "assumed" in line for line in audio_set.lines())


def test_of_segments_found_before_a_share_passes_the_filter():
    told = estimate(
        Work(online_given=10, clips=60, clips_to_caption=60, clips_to_filter=60, clip_s=480),
        CONFIG,
        of_paper(),
        Prices(),
    )
    assert told.clips.high == 60 and told.kept.high == pytest.approx(60 * 57 / 327.3)


def test_of_videos_without_a_clip_nothing_is_kept():
    nothing = replace(of_paper(), clips=Range(0, 0.01), kept=Range(0, 0.01))
    told = estimate(Work(online=5, online_given=1, clips=6, clips_to_filter=6), CONFIG, nothing, Prices())
    assert told.kept.low == 0 and told.kept.high == pytest.approx(6.05)


def test_the_cost_counts_what_a_price_is_given_for():
    work = Work(online=1_000_000)
    told = estimate(work, CONFIG, of_paper(), Prices(gpu_hour=2, gb_traffic=0.1))
    assert told.cost == told.gpu_hours * 2 + told.traffic_gb * 0.1
    assert any("cost:" in line for line in told.lines())
    json.dumps(told.as_json())


def test_what_is_left_is_told_by_kind_without_what_is_done(tmp_path):
    log = Log.begin(open_store(str(tmp_path)), kind="clips", fingerprint="", settings={})
    long = (Clip(start_ms=0, end_ms=1_000_000, caption="a"), Clip(start_ms=1_000_000, end_ms=2_000_000))
    videos = [
        Video(row=-1, video_id="a", media=watch_url("dQw4w9WgXcQ")),
        Video(row=-1, video_id="b", media=watch_url("9bZkp7q19f0"), given=True, clips=long),
        Video(row=-1, video_id="c", media="c.ogg"),
        Video(row=-1, video_id="d", media="d.ogg", given=True, clips=(Clip(start_ms=0, end_ms=TO_THE_END),)),
        Video(row=-1, video_id="e", media="e.ogg"),
        Video(row=-1, video_id="f", media=watch_url("kJQP7kiw5Fk"), clips=(Clip(start_ms=0, end_ms=9_000),)),
    ]
    append_plan(log, videos[:3])
    append_plan(log, videos[3:])
    log.commit(done=[(2, 3)])
    work = work_left(log.store, read_state(log.store), CONFIG)
    known = {
        "clips": 4,
        "clips_to_caption": 3,
        "clips_to_filter": 1,
        "num_too_long": 1,
        "whole_files": 1,
        "clip_s": 2_009,
    }
    assert work == Work(online=1, online_given=2, local=1, local_given=1, **known)
    told = estimate(work, CONFIG, of_paper(), Prices())
    assert any("max_clip_s_per_video" in line for line in told.lines())


def test_a_dataset_with_videos_enough_goes_by_its_own_shares(tmp_path):
    store = open_store(str(tmp_path))
    log = Log.begin(store, kind="clips", fingerprint="", settings={})
    assert measured(str(tmp_path)) is None
    videos = []
    for row in range(ENOUGH_VIDEOS):
        video = Video(row=row, video_id=str(row), num_clips=4, num_gaps=1, bytes_read=1_000, seconds={"captions": 0.8})
        clips = (Clip(start_ms=0, end_ms=1_000, verdict=Verdict.KEYWORD),) * 4
        video = replace(video, clips=clips)
        videos.append(video.ended(Reason.ALL_CLIPS_FILTERED if row % 4 else Reason.UNDECODABLE))
    proposal = BundleWriter(WriterConfig(), store)(videos)
    log.commit(add=proposal.add, done=proposal.done)
    shares = measured(str(tmp_path))
    assert shares is not None and f"{ENOUGH_VIDEOS} videos" in shares.basis
    assert shares.there.low < 0.75 < shares.there.high and shares.clips == Range(4, 4)
    assert shares.caption_s.low == pytest.approx(0.2) and shares.bytes_read == Range(1_000, 1_000)
    told = estimate(Work(online=1_000), CONFIG, shares, Prices())
    assert told.clips == Range(4_000, 4_000) and told.traffic_gb.high == pytest.approx(1e-3)
