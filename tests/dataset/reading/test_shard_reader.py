"""The reader: any number of processes reads the same clips, each once an epoch; from S3 in few reads; what is wrong is
named and shifts nothing.

Also proves dataset/reading/positions.py, through which a run reads.
"""

import multiprocessing
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.dataset.reading.clips import UnreadableClipError
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig
from autorecap.dataset.reading.manifest import DataConfig, open_manifest
from autorecap.dataset.reading.positions import Positions
from autorecap.dataset.reading.shard_reader import Cache, ReadConfig, runs
from autorecap.dataset.store import S3Store, open_store
from autorecap.training.loop.processes import Ranks
from tests.support.datasets import NUM_CLIPS, Growing, five_shards, open_clips

BATCH, STEPS = 7, 12  # 84 positions: three epochs, and a part of a fourth


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Growing:
    return five_shards(str(tmp_path_factory.mktemp("read") / "dataset"))


def names(data: Any, positions: range, window: int = 2, seed: int = 3) -> list[str]:
    clips = open_manifest(data if isinstance(data, list) else [data])
    stream = Positions(clips, seed, window)
    return [stream(position).name for position in positions]


# --- any number of processes


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_processes_share_a_batch_and_together_read_what_one_does(shards, count):
    alone = names(shards.url, range(BATCH * STEPS))
    together: dict[int, str] = {}
    for rank in range(count):
        stream = Positions(open_clips(shards.url), 3, 2)  # each has its own
        for step in reversed(range(STEPS)):  # and may be behind or ahead
            for position in Ranks(rank, count).share(range(step * BATCH, (step + 1) * BATCH)):
                assert position not in together
                together[position] = stream(position).name
    assert [together[position] for position in range(BATCH * STEPS)] == alone


def read_as(rank: int, count: int, steps: range, url: str) -> tuple[str, list[tuple[int, str, int]]]:
    """What one process of a run reads: by position the name of the clip, and which row its sound says that it is."""
    manifest = open_manifest([url], config=DataConfig(window=2))
    examples = ClipExamples(manifest, ExamplesConfig(mix_p=0), 10.0, seed=3, window=2)

    def one(position: int) -> tuple[int, str, int]:
        example = examples(position)
        samples: Any = example.load()[0]
        return position, example.name, round(float(samples.mean()) * 327.68)

    positions = [p for step in steps for p in Ranks(rank, count).share(range(step * BATCH, (step + 1) * BATCH))]
    with ThreadPoolExecutor(3) as pool:
        return repr(manifest.identity), list(pool.map(one, positions))


def test_a_run_that_goes_from_4_to_2_to_3_processes_reads_every_clip_once_an_epoch(shards):
    context = multiprocessing.get_context("forkserver")  # imports once
    context.set_forkserver_preload([__name__, "duckdb", "pyarrow.parquet", "soundfile"])
    read: dict[int, tuple[str, int]] = {}
    identities = set()
    phases = ((4, range(0, 5)), (2, range(5, 6)), (3, range(6, STEPS)))  # the switches fall into epochs
    for count, steps in phases:
        processes = [ProcessPoolExecutor(1, context) for _ in range(count)]
        told = [p.submit(read_as, rank, count, steps, shards.url) for rank, p in enumerate(processes)]
        for identity, found in (future.result() for future in told):
            identities.add(identity)
            for position, name, row in found:
                assert position not in read, "no two processes read a position"
                read[position] = name, row
        for process in processes:
            process.shutdown()
    assert sorted(read) == list(range(BATCH * STEPS))
    assert len(identities) == 1, "all see the same manifest"
    assert [read[p][0] for p in range(BATCH * STEPS)] == names(shards.url, range(BATCH * STEPS)), "as one process does"
    assert all(name == f"v{row}_0_200" for name, row in read.values()), "and each sound is the one of its name"
    print(f"\nprocesses {' -> '.join(str(count) for count, _ in phases)}")
    for epoch in range(BATCH * STEPS // NUM_CLIPS):
        part = range(epoch * NUM_CLIPS, (epoch + 1) * NUM_CLIPS)
        times = Counter(read[position][0] for position in part)
        assert set(times.values()) == {1} and len(times) == NUM_CLIPS
        print(f"epoch {epoch}: positions {part.start} to {part.stop - 1}, {len(times)} clips, each exactly once")


def test_a_mix_gives_each_set_its_share_and_each_of_its_clips_once_an_epoch(shards, tmp_path):
    small = Growing(str(tmp_path / "small"))
    small.add(range(100, 105), seconds=0.2)
    mixed = names([f"autocap:1={shards.url}", f"audiocaps:3={small.url}"], range(92))
    of_small = [name for name in mixed if name.startswith("v10") and name[3].isdigit()]
    assert len(of_small) == 69
    assert all(len(set(of_small[i : i + 5])) == 5 for i in range(0, 65, 5))
    of_large = [name for name in mixed if name not in of_small]
    assert sorted(of_large) == sorted(names(shards.url, range(23)))
    together = names([shards.url, small.url], range(28))  # without shares they are one list
    assert len(set(together)) == 28
    clip = Positions(open_manifest([f"audiocaps:3={small.url}"]), 0, 1)(0)
    assert clip.dataset == "audiocaps" and clip.seconds == 0.2


# --- bad clips


def test_a_damaged_clip_is_named_when_it_is_read_and_shifts_nothing(tmp_path):
    growing = Growing(str(tmp_path / "dataset"))
    growing.add(range(6), seconds=0.5)
    order = names(growing.url, range(12))
    growing.damage(4)
    examples = ClipExamples(open_manifest([growing.url]), ExamplesConfig(mix_p=0), 10.0, 3, 2)
    seen = []
    for position in range(12):
        example = examples(position)
        seen.append(example.name)
        if example.name == "v4_0_500":
            with pytest.raises(UnreadableClipError, match=r"^v4_0_500: "):
                example.load()
        else:
            assert len(example.load()[0][0]) == 16_000
    assert seen == order


def test_a_shard_that_was_cut_short_is_said_to_be(tmp_path):
    growing = Growing(str(tmp_path / "dataset"))
    growing.add(range(3), seconds=0.5)
    (shard,) = Path(growing.url, "shards").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:2_000])
    clips = open_clips(growing.url)
    with pytest.raises(UnreadableClipError, match=r"^v0_0_500: EOFError: shards/.* ends before byte"):
        clips[0].load(10.0, 0.0)
    with pytest.raises(UnreadableClipError, match=r"^v2_0_500: "):
        _ = clips[2].video_caption


def test_sound_that_is_not_what_the_index_says_is_not_used(tmp_path):
    growing, other = (Growing(str(tmp_path / name), rate) for name, rate in (("a", 32_000), ("b", 16_000)))
    for each in (growing, other):
        each.add(range(1), seconds=1.0)
    shards = [next(Path(each.url, "shards").glob("*.tar")) for each in (growing, other)]
    content = bytearray(shards[0].read_bytes())
    flac = shards[1].read_bytes()[512:-2048]
    content[512 : 512 + len(flac)] = flac
    shards[0].write_bytes(content)
    with pytest.raises(UnreadableClipError, match=r"16000 samples at 16000 Hz, where the index says 32000 at 32000"):
        open_clips(growing.url)[0].load(10.0, 0.0)


# --- S3


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 300_000)), min_size=1, max_size=30),
    st.integers(0, 1_000_000),
)
def test_runs_hold_their_clips_and_are_no_longer_than_they_may_be(spans, max_bytes):
    starts = np.cumsum([gap for gap, _ in spans]) + np.cumsum([0, *(size for _, size in spans[:-1])])
    ends = starts + [size for _, size in spans]
    found = runs(starts, ends, max_bytes)
    assert np.all(found[:, 0] <= starts) and np.all(found[:, 1] >= ends)
    whole = np.unique(found, axis=0)
    assert np.all(whole[1:, 0] >= whole[:-1, 1]), "nothing is read twice"
    alone = (found[:, 0] == starts) & (found[:, 1] == ends)
    assert np.all(alone | (found[:, 1] - found[:, 0] <= max_bytes))


class Counting:
    """Counts the range reads of a store."""

    def __init__(self, store: S3Store) -> None:
        self.store, self.url = store, store.url
        self.reads: list[tuple[str, int, int]] = []

    def read_range(self, name: str, start: int, end: int) -> bytes:
        self.reads.append((name, start, end))
        return self.store.read_range(name, start, end)


@pytest.fixture
def in_s3(s3_bucket) -> Growing:
    growing = Growing(f"{s3_bucket}/dataset")
    growing.add(range(8), seconds=0.3)
    growing.add(range(8, 20), seconds=0.3)
    return growing


def stored(growing: Growing, tmp_path: Path, **options: float):
    """The dataset's clips, and a list of the reads that they cost."""
    read = ReadConfig(cache=str(tmp_path / "cache"), **options)
    clips: Any = open_manifest([growing.url], config=DataConfig(read=read)).sets[0]
    counting = Counting(clips.reader.store)
    clips.reader.store = counting
    return clips, counting.reads


def test_shards_in_s3_are_read_in_few_ranges_which_the_processes_of_a_machine_share(in_s3, tmp_path):
    clips, reads = stored(in_s3, tmp_path)
    order = np.random.default_rng(0).permutation(20).tolist()
    rows = {clips[i].name: round(float(clips[i].load(10.0, 0)[0].mean()) * 327.68) for i in order}
    assert rows == {f"v{row}_0_300": row for row in range(20)}
    assert len(reads) == 2, "a read per shard"
    again, more = stored(in_s3, tmp_path)
    assert again[3].load(10.0, 0)[0].shape == (1, 9_600) and again[3].video_caption
    assert more == [], "the cache has it"
    each, alone = stored(in_s3, tmp_path, read_mb=0)
    assert all(each[i].load(10.0, 0)[0].shape == (1, 9_600) for i in range(20))
    assert len(alone) == 20


def test_what_lies_far_apart_after_a_filter_is_not_read_over(in_s3, tmp_path):
    read = ReadConfig(cache=str(tmp_path / "cache"), read_mb=8)
    clips: Any = open_manifest([in_s3.url], "row in (8, 9, 18)", config=DataConfig(read=read)).sets[0]
    counting = Counting(clips.reader.store)
    clips.reader.store = counting
    sizes = {clips[i].name: len(clips[i].load(10.0, 0)[0][0]) for i in range(3)}
    assert len(sizes) == 3
    assert len(counting.reads) == 2
    assert sum(end - start for _, start, end in counting.reads) < 1.5 * clips.num_bytes


def test_the_cache_stays_within_its_bounds_and_drops_what_was_not_wanted_for_longest(tmp_path):
    cache = Cache(str(tmp_path / "cache"), 5_000)
    made: list[str] = []

    def entry(name: str):
        def make() -> bytes:
            made.append(name)
            return name.encode() * 1_000

        return cache.read(name, make, 1, 3)

    for name in "abcdefg":
        assert entry("a") == b"aa"
        assert entry(name) == name.encode() * 2
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.run")) <= 5_000
    assert made == list("abcdefg"), "what is wanted again and again stays"
    entry("b")
    assert made[-1] == "b"


def test_several_threads_that_want_the_same_read_it_once(tmp_path):
    cache = Cache(str(tmp_path / "cache"), 10**6)
    made, started = [], threading.Barrier(8)

    def make() -> bytes:
        made.append(1)
        return b"x" * 100

    def want() -> None:
        started.wait()
        assert cache.read("same", make, 0, 5) == b"xxxxx"

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_will_be_wanted_is_fetched_before_it_is(in_s3, tmp_path):
    clips, reads = stored(in_s3, tmp_path)
    clips.prepare(0, 2)
    clips.prepare(1, 2)
    fetched = len(reads)
    assert fetched == 2
    for i in range(20):
        clips[i].load(10.0, 0.0)
    assert len(reads) == fetched
    small, none = stored(in_s3, tmp_path / "other", cache_gb=1e-4)
    small.prepare(0, 2)
    assert none == [], "what would not fit is not fetched ahead"


def test_positions_look_ahead_and_read_the_same(in_s3, tmp_path):
    read = ReadConfig(cache=str(tmp_path / "cache"))
    manifest = open_manifest([in_s3.url], config=DataConfig(window=1, read=read))
    stream = Positions(manifest, 3, 1)
    seen = [stream(position) for position in range(40)]
    assert len({clip.name for clip in seen[:20]}) == 20
    assert all(clip.load(10.0, 0)[0].shape == (1, 9_600) for clip in seen)
    assert open_store(in_s3.url).exists("dataset.json")
