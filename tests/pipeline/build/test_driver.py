"""The driver: what is new is planned, what is done stays done, and it goes on after any interruption."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autorecap.base.errors import DONE, FINISHED_WITH_FAILURES, ForeseenError, Refused
from autorecap.dataset.log import DatasetError, Fenced, Log, read_state
from autorecap.dataset.publish import WriteFailed
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.plan.plan import append_found
from autorecap.pipeline.plan.sources import FolderSource
from autorecap.stages.reasons import Reason, Status
from autorecap.stages.sources import SourceError
from tests.support.flows import WatchedFlow

CONFIG = load_config(None, ["writer.videos_per_shard=2", "writer.retry_after_s=0"])


class Verdict:
    """A stage that ends the videos named in `endings`, and leaves the others as they are."""

    name = "verdict"

    def __init__(self, **endings: Reason) -> None:
        self.endings = endings

    def __call__(self, videos):
        return [v.ended(self.endings[v.video_id]) if v.video_id in self.endings else v for v in videos]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abcde":
        (folder / f"{name}.ogg").write_bytes(b"x")
    return folder


@pytest.fixture
def out(tmp_path) -> str:
    return str(tmp_path / "out")


def build(folder, out, stage=None, config=CONFIG, **options):
    job = prepare(FolderSource(str(folder)), out, config, **options)
    flow = WatchedFlow(config, job.store, [stage or Verdict()])
    return run(job, flow, lambda outcome, total: None), flow.seen


def test_every_video_is_planned_handled_and_in_the_ledger(folder, out):
    outcome, seen = build(folder, out, Verdict(b=Reason.NO_GAP))
    assert seen == list("abcde")
    assert (outcome.counts["videos"], outcome.counts[Status.OK], outcome.counts[Status.REJECTED]) == (5, 4, 1)
    state = read_state(open_store(out))
    assert len(state.done) == state.num_rows == 5 and len(state.names("ledger")) == 3


def test_a_second_build_has_no_work_and_a_new_video_is_all_its_work(folder, out):
    build(folder, out)
    assert not prepare(FolderSource(str(folder)), out, CONFIG).has_work
    (folder / "new.ogg").write_bytes(b"x")
    (folder / "a.ogg").unlink()  # what is done does not need its video any more
    assert prepare(FolderSource(str(folder)), out, CONFIG).has_work
    assert build(folder, out)[1] == ["new"]
    assert read_state(open_store(out)).num_rows == 6


def test_an_interrupted_build_goes_on_where_it_was_with_the_same_bundles(folder, out):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    flow = WatchedFlow(CONFIG, job.store, [Verdict()])

    def stop_after_first_commit(outcome, total):
        if outcome.counts["videos"]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, flow, stop_after_first_commit)
    assert list(read_state(job.store).done) == [0, 1]
    assert build(folder, out)[1] == ["c", "d", "e"]
    events = [
        json.loads(line)
        for name in job.store.list("runs")
        if "plan" not in name
        for line in job.store.read(name).splitlines()
    ]
    assert [e["event"] for e in events].count("stopped") == 1


def test_transient_failures_are_tried_again_until_the_limit(folder, out):
    outcome, seen = build(folder, out, Verdict(b=Reason.TIMEOUT))
    assert seen == ["a", "b", "c", "d", "e", "b", "b"]  # at once here: retry_after_s is 0
    assert outcome.waiting == 0
    assert not prepare(FolderSource(str(folder)), out, CONFIG).has_work


def test_a_retry_that_is_not_due_waits_for_a_later_build(folder, out):
    later = load_config(None, ["writer.videos_per_shard=2", "writer.retry_after_s=3600"])
    outcome, seen = build(folder, out, Verdict(b=Reason.TIMEOUT), later)
    assert seen == list("abcde") and outcome.waiting == 1
    job = prepare(FolderSource(str(folder)), out, later)
    assert not job.has_work
    assert list(job.state.unfinished(time.time() + 3601)) == [1]


def test_videos_that_an_earlier_build_left_are_no_failures_of_this_one(folder, out):
    later = load_config(None, ["writer.videos_per_shard=2", "writer.retry_after_s=3600"])
    outcome, _ = build(folder, out, Verdict(**dict.fromkeys("abcd", Reason.TIMEOUT)), later)
    assert (outcome.waiting, outcome.failed_share(), outcome.exit_code) == (4, 0.8, FINISHED_WITH_FAILURES)
    (folder / "f.ogg").write_bytes(b"x")
    outcome, seen = build(folder, out, config=later)
    assert (seen, outcome.waiting, outcome.failed_share(), outcome.exit_code) == (["f"], 4, 0, DONE)


def test_long_plans_are_worked_off_in_passes(folder, out):
    small = load_config(None, ["pools.pass_videos=2", "writer.videos_per_shard=2"])
    assert build(folder, out, config=small)[1] == list("abcde")


def test_other_settings_are_refused_with_their_difference_unless_accepted(folder, out):
    build(folder, out)
    other = load_config(None, ["captions.num_beams=7", "writer.videos_per_shard=2"])
    with pytest.raises(Refused, match=r"captions\.num_beams: 2 -> 7") as caught:
        prepare(FolderSource(str(folder)), out, other)
    assert "--accept-settings" in str(caught.value)
    (folder / "new.ogg").write_bytes(b"x")
    assert build(folder, out, config=other, accept_settings=True)[1] == ["new"]
    assert prepare(FolderSource(str(folder)), out, other)
    assert read_state(open_store(out)).settings["captions.num_beams"] == 7
    same_but_for_sizes = replace(other, writer=replace(other.writer, videos_per_shard=9))
    assert not prepare(FolderSource(str(folder)), out, same_but_for_sizes).has_work


def test_a_build_that_is_replaced_stops_and_leaves_the_newer_one_alone(folder, out):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    flow = WatchedFlow(CONFIG, job.store, [Verdict()])

    def another_takes_over(outcome, total):
        if outcome.counts["videos"] == 2:
            Log.begin(job.store, kind="clips", fingerprint="f", settings={})

    with pytest.raises(Fenced, match="another driver"):
        run(job, flow, another_takes_over)
    assert list(read_state(job.store).done) == [0, 1]


def test_a_directory_that_holds_something_else_is_not_touched(folder, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(DatasetError, match="not empty and not a dataset"):
        prepare(FolderSource(str(folder)), str(tmp_path / "thesis"), CONFIG)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_a_missing_folder_of_videos_is_named(tmp_path, out):
    with pytest.raises(SourceError, match="nowhere"):
        prepare(FolderSource(str(tmp_path / "nowhere")), out, CONFIG)


def test_an_empty_folder_is_no_work(tmp_path, out):
    (tmp_path / "empty").mkdir()
    assert not prepare(FolderSource(str(tmp_path / "empty")), out, CONFIG).has_work


def test_two_builds_that_were_prepared_before_either_ran_plan_every_video_once(folder, out):
    first, second = prepare(FolderSource(str(folder)), out, CONFIG), prepare(FolderSource(str(folder)), out, CONFIG)
    for job in (first, second):
        run(job, WatchedFlow(CONFIG, job.store, [Verdict()]), lambda outcome, total: None)
    assert read_state(open_store(out)).num_rows == 5


def test_settings_that_changed_while_a_build_was_waiting_for_its_cluster_are_refused(folder, out):
    Log.begin(open_store(out), kind="clips", fingerprint="f", settings={})  # nothing handled: any settings may follow
    job = prepare(FolderSource(str(folder)), out, load_config(None, ["captions.num_beams=7"]))
    build(folder, out)
    with pytest.raises(Refused, match="num_beams: 2 -> 7"):
        run(job, WatchedFlow(CONFIG, job.store, [Verdict()]), lambda outcome, total: None)


def test_a_worker_that_writes_to_a_disk_of_its_own_is_found_out(folder, out, tmp_path):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    flow = WatchedFlow(CONFIG, open_store(str(tmp_path / "elsewhere")), [Verdict()])
    with pytest.raises(WriteFailed, match="a place that all nodes share"):
        run(job, flow, lambda outcome, total: None)
    assert len(read_state(job.store).done) == 0


def test_another_video_under_a_known_id_is_reported(folder, out, tmp_path):
    build(folder, out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.ogg").write_bytes(b"y")
    job = prepare(FolderSource(str(tmp_path / "other")), out, CONFIG)
    assert job.num_new == 0 and any("another file" in line for line in job.found.lines)


def test_the_borders_of_shards_do_not_depend_on_where_a_pass_or_a_run_ended(folder, out, tmp_path):
    odd = load_config(None, ["pools.pass_videos=3", "writer.videos_per_shard=2"])
    job = prepare(FolderSource(str(folder)), out, odd)
    bundles: list[list[str]] = []
    flow: Any = WatchedFlow(odd, job.store, [Verdict()])
    write = flow.writer

    def watched(videos):
        bundles.append([video.video_id for video in videos])
        return write(videos)

    flow.writer = watched
    run(job, flow, lambda outcome, total: None)
    assert bundles == [["a", "b"], ["c", "d"], ["e"]]


def test_a_build_killed_before_its_first_commit_can_start_again(folder, out):
    Path(out, ".staging").mkdir(parents=True)
    Path(out, ".staging", "left").write_bytes(b"x")
    assert build(folder, out)[1] == list("abcde")


def test_retries_count_each_video_once(folder, out):
    outcome, _ = build(folder, out, Verdict(**dict.fromkeys("abcde", Reason.TIMEOUT)))
    assert (outcome.counts["videos"], outcome.counts[Status.FAILED], outcome.failed_share()) == (5, 5, 1.0)
    assert outcome.exit_code == 1


def test_an_output_that_may_not_be_written_is_named_before_the_work(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ForeseenError, match="file"):
        prepare(FolderSource(str(folder)), str(tmp_path / "file" / "out"), CONFIG)


def test_videos_that_a_flow_loses_are_an_error_and_not_an_endless_loop(folder, out):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    flow: Any = WatchedFlow(CONFIG, job.store, [Verdict()])
    everything = flow.run
    flow.run = lambda rows: list(everything(rows))[:1]
    with pytest.raises(RuntimeError, match="3 videos went in and never came out, from plan row 2"):
        run(job, flow, lambda outcome, total: None)


def test_a_plan_file_left_by_a_driver_that_died_does_not_count(folder, out):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    log: Any = Log.begin(job.store, kind="clips", fingerprint="", settings={})
    log.commit = lambda **files: (_ for _ in ()).throw(KeyboardInterrupt)  # dies between putting and committing
    with pytest.raises(KeyboardInterrupt):
        append_found(log, job.found or pytest.fail("nothing was found"))
    assert len(job.store.list("plan")) == 1 and read_state(job.store).num_rows == 0
    (folder / "b.ogg").rename(folder / "x.ogg")  # the same count of rows, other videos
    assert build(folder, out)[1] == ["a", "c", "d", "e", "x"]
    assert len(job.store.list("plan")) == 2


def test_the_same_plan_left_by_a_driver_that_died_is_used(folder, out):
    job = prepare(FolderSource(str(folder)), out, CONFIG)
    log: Any = Log.begin(job.store, kind="clips", fingerprint="", settings={})
    commit, log.commit = log.commit, lambda **files: None
    append_found(log, job.found or pytest.fail("nothing was found"))
    log.commit = commit
    assert build(folder, out)[1] == list("abcde")
    assert len(job.store.list("plan")) == 1
