"""Shards: readable by others, the same bytes for the same clips, verified before they count."""

import io
import json
import struct

import numpy as np
import pytest
import soundfile
import webdataset

from autorecap.dataset.shard import ShardError, verify_shard, write_shard
from autorecap.pipeline.build.bundle_writer import sample_of
from autorecap.stages.flac import Flac
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
