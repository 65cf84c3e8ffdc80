"""Shards and what goes with them: readable by others, the same bytes for the same clips, verified before they count."""

import io
import json
import struct
import time
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import webdataset

from autorecap.dataset.log import Log, read_state
from autorecap.dataset.shard import ShardError, verify_shard, write_shard
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, Proposal, WriterConfig, sample_of
from autorecap.stages.flac import Flac
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Clip, Verdict, Video

RATE = 32_000


def video(row: int, num_clips: int = 2, **more) -> Video:
    rng = np.random.default_rng(row)
    clips = []
    for i in range(num_clips):
        pcm = rng.integers(-9000, 9000, RATE // 2).astype("<i2").tobytes()
        clips.append(
            Clip(
                start_ms=i * 1000,
                end_ms=i * 1000 + 500,
                audio=pcm,
                sample_rate_hz=RATE,
                num_samples=RATE // 2,
                caption=f"Rain {row}.{i} fällt",
                verdict=Verdict.KEPT,
            )
        )
    made = Video(row=row, video_id=f"vid-{row}", title="Tïtle", clips=tuple(clips), num_clips=num_clips, **more)
    return Flac()([made])[0]


def samples(*videos):
    return [sample_of(v, clip) for v in videos for clip in v.clips]


def test_a_shard_reads_with_webdataset_flac_first_then_json(tmp_path):
    rows, _ = write_shard(tmp_path / "s.tar", samples(video(0), video(1)))
    read = list(webdataset.WebDataset(str(tmp_path / "s.tar"), shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in read] == [
        "vid-0_0_500",
        "vid-0_1000_1500",
        "vid-1_0_500",
        "vid-1_1000_1500",
    ]
    assert all([name for name in sample if "_" not in name] == ["flac", "json"] for sample in read)
    assert json.loads(read[0]["json"])["caption"] == "Rain 0.0 fällt"
    assert len(soundfile.read(io.BytesIO(read[3]["flac"]))[0]) == RATE // 2
    assert [row["key"] for row in rows] == [sample["__key__"] for sample in read]


def test_the_index_points_at_the_payloads_and_the_idx_at_the_samples(tmp_path):
    rows, idx = write_shard(tmp_path / "s.tar", samples(video(0), video(1)))
    data = (tmp_path / "s.tar").read_bytes()
    for row in rows:
        assert data[row["offset"] :][:4] == b"fLaC"
        assert json.loads(data[row["json_offset"] : row["json_offset"] + row["json_size"]])["key"] == row["key"]
    starts = struct.unpack(f"<{len(rows) + 1}Q", idx)
    assert [start + 512 for start in starts[:-1]] == [row["offset"] for row in rows]
    assert data[starts[-1] :].strip(b"\0") == b""


def test_equal_clips_make_equal_bytes(tmp_path):
    write_shard(tmp_path / "a.tar", samples(video(0), video(1)))
    write_shard(tmp_path / "b.tar", samples(video(0), video(1)))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_shard_that_was_damaged_on_its_way_to_the_disk_is_noticed(tmp_path):
    rows, _ = write_shard(tmp_path / "s.tar", samples(video(0)))
    verify_shard(tmp_path / "s.tar", rows)
    data = bytearray((tmp_path / "s.tar").read_bytes())
    data[rows[1]["offset"] + 2000 : rows[1]["offset"] + 9000] = bytes(7000)
    (tmp_path / "s.tar").write_bytes(data)
    with pytest.raises(ShardError, match="vid-0_1000_1500"):
        verify_shard(tmp_path / "s.tar", rows)
    with pytest.raises(ShardError, match="members"):
        write_shard(tmp_path / "t.tar", samples(video(0, 1)))
        verify_shard(tmp_path / "t.tar", rows)


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
