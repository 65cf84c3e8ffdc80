"""The writer of a build: a bundle of videos becomes shards, index and ledger, and one proposal.

Also proves dataset/publish.py, by which it and other writers publish.
"""

import time
from dataclasses import replace

import duckdb
import pyarrow.parquet as pq
import pytest

from autorecap.dataset.log import Log, read_state
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, Proposal, WriterConfig
from autorecap.stages.reasons import Reason
from tests.dataset.test_shard import video


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "dataset"))


def test_a_bundle_becomes_shards_index_and_ledger_and_one_proposal(store, tmp_path):
    bad = video(2).ended(Reason.UNDECODABLE, "v.mp4: broken")
    later = video(3).ended(Reason.TIMEOUT)
    proposal = BundleWriter(WriterConfig(), store)([video(0), video(1), bad, later])
    assert Proposal.from_json(proposal.to_json()) == proposal
    assert [file.name.partition("/")[0] for file in proposal.add] == ["shards", "shards", "index", "ledger"]
    assert proposal.done == ((0, 3),) and [entry.row for entry in proposal.retry] == [3]
    assert proposal.retry[0].attempt == 1
    assert proposal.summary == {"ok": 2, "failed": 1, "videos": 3, "clips": 4}
    root = tmp_path / "dataset"
    ledger = pq.read_table(root / proposal.add[-1].name).to_pylist()
    assert [(row["status"], row["reason"], row["num_kept"]) for row in ledger] == [
        ("ok", "", 2), ("ok", "", 2), ("failed", "undecodable", 0), ("retry", "timeout", 0)
    ]  # fmt: skip
    captions = duckdb.sql(f"select caption from '{root}/index/*.parquet' order by key").fetchall()
    assert captions[0] == ("Rain 0.0 fällt",) and len(captions) == 4


def test_a_shard_is_closed_before_it_grows_too_large(store, tmp_path):
    videos = [video(row, num_clips=12) for row in range(4)]
    proposal = BundleWriter(WriterConfig(max_shard_bytes=1_000_000), store)(videos)
    shards = [file for file in proposal.add if file.name.endswith(".tar")]
    assert len(shards) > 1 and all(file.bytes <= 1_000_000 + 10_240 for file in shards)
    assert sum(file.counts["clips"] for file in shards) == 48
    index = pq.read_table(tmp_path / "dataset" / proposal.add[-2].name).to_pylist()
    assert [row["shard"] for row in index] == sorted(
        (row["shard"] for row in index), key=[f.name for f in shards].index
    )


def test_a_bundle_of_rejected_videos_is_committed_without_a_shard(store):
    proposal = BundleWriter(WriterConfig(), store)([video(0).ended(Reason.NO_GAP)])
    assert [file.name.partition("/")[0] for file in proposal.add] == ["ledger"] and proposal.done == ((0, 1),)


def test_a_video_that_was_tried_often_enough_counts_as_failed(store, tmp_path):
    tired = replace(video(0), attempt=2).ended(Reason.TIMEOUT, "v.mp4: slow")
    proposal = BundleWriter(WriterConfig(max_attempts=3), store)([tired])
    assert proposal.retry == () and proposal.done == ((0, 1),)
    (row,) = pq.read_table(tmp_path / "dataset" / proposal.add[-1].name).to_pylist()
    assert (row["status"], row["reason"]) == ("failed", "timeout")
    assert row["detail"] == "given up after 3 tries; v.mp4: slow"


def test_a_folder_that_is_not_mounted_does_not_use_up_the_tries_of_its_videos(store):
    gone = replace(video(0), attempt=40).ended(Reason.MEDIA_MISSING)
    proposal = BundleWriter(WriterConfig(max_attempts=3, retry_after_s=0), store)([gone])
    (again,) = proposal.retry
    assert proposal.done == () and again.attempt == 41
    assert 50 < again.not_before - time.time() < 86_500


def test_a_second_writer_of_the_same_bundle_publishes_the_same_names(store):
    first = BundleWriter(WriterConfig(), store)([video(0)])
    again = BundleWriter(WriterConfig(), store)([video(0)])
    assert first.add == again.add


def test_what_the_proposal_names_counts_only_after_the_commit(store):
    log = Log.begin(store, kind="clips", fingerprint="f", settings={})
    proposal = BundleWriter(WriterConfig(), store)([video(0)])
    assert read_state(store).names("shards") == []
    log.commit(add=proposal.add, done=proposal.done)
    assert len(read_state(store).names("shards")) == 2


def test_writing_works_the_same_in_s3(s3_bucket, tmp_path):
    remote = open_store(f"{s3_bucket}/data")
    proposal = BundleWriter(WriterConfig(), remote)([video(0), video(1)])
    assert proposal.add[:3] == BundleWriter(WriterConfig(), open_store(str(tmp_path)))([video(0), video(1)]).add[:3]
    assert remote.read(proposal.add[0].name)[512:516] == b"fLaC"
