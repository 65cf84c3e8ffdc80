"""The whole way on real components: synthesised videos in, ffmpeg, the bundled captioner, Ray, shards out.

The driver is killed on the way, so whatever holds here holds for a dataset whose build was killed and went on.

It proves cluster/ray_flow.py.
"""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import soundfile
import webdataset

from autorecap.base.settings_files import CONFIGS
from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS
from autorecap.demo.sentences import names
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.sources import FolderSource
from tests.support.builds import shard_names, wait_for_commits
from tests.support.places import PROJECT

pytestmark = pytest.mark.ray

VIDEOS = {video.name: video for video in CORPUS}
REASONS = {
    "talkingOnly": ("rejected", "no_gap"),
    "unsubtitled": ("rejected", "no_transcript"),
    "collapsed_1": ("rejected", "collapsed_transcript"),
    "deutsch_Reg": ("rejected", "no_transcript_in_language"),
    "quietCellar": ("rejected", "all_clips_filtered"),
    "concertHall": ("rejected", "all_clips_filtered"),
    "corruptFile": ("failed", "undecodable"),
}


SMALL_SHARDS = ("writer.videos_per_shard=3", "pools.block_videos=3")


@pytest.fixture(scope="module")
def dataset(ray_address, corpus, tmp_path_factory) -> Path:
    """The demo's dataset, built once: the driver is killed after its first shards, and the same command goes on."""
    out = tmp_path_factory.mktemp("demo") / "dataset"
    command = [sys.executable, "build_autorecap_xl.py", "--videos", str(corpus), "--out", str(out), "--json"]
    command += ["--config", str(CONFIGS / "demo.yaml"), "--address", ray_address]
    command += [word for setting in SMALL_SHARDS for word in ("--set", setting)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as killed:
        wait_for_commits(out, 3, killed)
        killed.kill()
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert 0 < outcome["videos"] < len(CORPUS) and outcome["exit_code"] == 0
    assert "committed" in done.stderr and "captioned" in done.stderr  # progress shows while it runs
    return out


def test_every_video_has_a_ledger_row_with_the_right_status_and_reason(dataset):
    rows = DatasetView(str(dataset)).rows("select original_name, status, reason, detail, seconds from videos")
    assert {row["original_name"] for row in rows} == set(VIDEOS)
    for row in rows:
        assert (row["status"], row["reason"]) == REASONS.get(row["original_name"], ("ok", "")), row
        assert row["seconds"]


def test_the_clips_lie_in_the_gaps_and_join_what_sounds_the_same(dataset):
    view = DatasetView(str(dataset))
    for row in view.rows("select original_name, num_gaps, gap_ms from videos where status = 'ok'"):
        gaps = VIDEOS[row["original_name"]].gaps_ms
        assert row["num_gaps"] == len(gaps)
        assert row["gap_ms"] == pytest.approx(sum(end - start for start, end in gaps), abs=60)
    assert view.rows("select key from clips where duration_ms > 10000")  # what the captioner hears at once
    twins = "a.video_id = b.video_id and a.end_ms = b.start_ms and a.caption = b.caption"
    assert not view.rows(f"select a.key from clips a join clips b on {twins}")


def test_the_captions_name_what_the_clips_sound_like(dataset):
    clips = DatasetView(str(dataset)).rows("select original_name, start_ms, caption from clips join videos using (row)")
    right = [names(clip["caption"], heard(VIDEOS[clip["original_name"]], clip["start_ms"])) for clip in clips]
    assert sum(right) >= 0.9 * len(right), clips


def heard(video, at_ms: int) -> str:
    for part in video.parts:
        if at_ms < part.seconds * 1000:
            return part.kind
        at_ms -= round(part.seconds * 1000)
    raise AssertionError


def test_music_that_nobody_transcribed_is_dropped_by_its_caption(dataset):
    (video,) = DatasetView(str(dataset)).rows("select dropped from videos where original_name = 'concertHall'")
    assert {clip["verdict"] for clip in video["dropped"]} == {"keyword"}


def test_names_that_are_no_ids_become_safe_ones(dataset):
    ids = [row["video_id"] for row in DatasetView(str(dataset)).rows("select distinct video_id from clips")]
    assert "-dashFirst-" in ids
    (odd,) = (video_id for video_id in ids if video_id.startswith("my-video-0-"))
    assert "." not in odd


def test_the_tars_read_with_webdataset_and_hold_exactly_what_the_index_says(dataset):
    shards = [str(dataset / name) for name in shard_names(dataset)]
    read = {s["__key__"]: s for s in webdataset.WebDataset(shards, shardshuffle=False)}
    index = duckdb.sql(f"select * from '{dataset}/index/*.parquet'").fetchall()
    assert len(read) == len(index) > 10
    for key, sample in read.items():
        meta = json.loads(sample["json"])
        samples, rate = soundfile.read(io.BytesIO(sample["flac"]))
        assert key == f"{meta['video_id']}_{meta['start_ms']}_{meta['end_ms']}"
        assert rate == 32_000 and len(samples) == (meta["end_ms"] - meta["start_ms"]) * 32 == meta["num_samples"]


def test_one_clip_is_read_through_the_index(dataset):
    stored = DatasetView(str(dataset)).clip("rainOnRoof1_0_12000")
    assert len(soundfile.read(io.BytesIO(stored.flac))[0]) == 12 * 32_000
    assert stored.meta["caption"] == stored.row["caption"]


def test_a_build_without_ray_and_undisturbed_publishes_the_same_bytes(dataset, corpus, tmp_path):
    config = load_config(CONFIGS / "demo.yaml", SMALL_SHARDS)
    job = prepare(FolderSource(str(corpus)), str(tmp_path), config)
    flow = LocalFlow(config, job.store)
    outcome = run(job, flow, lambda outcome, total: None)
    assert outcome.exit_code == 0 and flow.counts() == dict.fromkeys(("fetch", "media", "judge"), len(CORPUS))
    local, by_ray = (read_state(open_store(str(out))) for out in (tmp_path, dataset))
    for folder in ("plan", "shards", "index"):  # the ledger says how long it took
        assert local.names(folder) == by_ray.names(folder) != []
        assert [local.files[name] for name in local.names(folder)] == [
            by_ray.files[name] for name in by_ray.names(folder)
        ]
    seconds_apart = "select * exclude (seconds) from videos order by row"
    assert DatasetView(str(tmp_path)).rows(seconds_apart) == DatasetView(str(dataset)).rows(seconds_apart)


def test_another_run_has_nothing_to_do_and_says_so(dataset, corpus, build):
    before = sorted(path for path in dataset.rglob("*"))
    again = build(corpus, dataset, *(word for setting in SMALL_SHARDS for word in ("--set", setting)))
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert sorted(path for path in dataset.rglob("*")) == before


@pytest.mark.slow
def test_other_pool_and_block_sizes_give_byte_identical_shards(dataset, corpus, build, tmp_path):
    sizes = (
        *SMALL_SHARDS,
        "pools.block_videos=2",
        "pools.media.max_workers=3",
        "pools.media.cpus=0.2",
        "pools.fetch.cpus=0.1",
    )
    done = build(corpus, tmp_path / "other", *(argument for size in sizes for argument in ("--set", size)))
    assert done.returncode == 0, done.stderr
    assert shard_names(tmp_path / "other") == shard_names(dataset)  # the name is the hash of the bytes


@pytest.mark.slow
def test_a_build_into_s3_gives_the_same_shards(dataset, corpus, build, s3_bucket):
    small = [word for setting in SMALL_SHARDS for word in ("--set", setting)]
    done = build(corpus, f"{s3_bucket}/demo", *small, own_ray=True)
    assert done.returncode == 0, done.stderr
    assert shard_names(f"{s3_bucket}/demo") == shard_names(dataset)
    assert "nothing to do" in build(corpus, f"{s3_bucket}/demo", *small).stderr


@pytest.mark.slow
def test_workers_that_may_not_write_end_the_build_with_a_message(corpus, build, s3_bucket):
    """The cluster was started without credentials; the driver has some."""
    done = build(corpus, f"{s3_bucket}/denied")
    assert done.returncode == 1
    assert "Check credentials" in done.stderr and "Traceback" not in done.stderr
