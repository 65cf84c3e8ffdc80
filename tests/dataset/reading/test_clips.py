"""Clips to train on: from lists and from datasets, whole or in pieces; and the examples drawn from them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from autorecap.dataset.log import Log
from autorecap.dataset.reading.clips import DataError, UnreadableClipError
from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples, mixed_caption
from autorecap.dataset.reading.manifest import Manifest, open_clips
from autorecap.dataset.sql import BadQuery
from autorecap.dataset.store import open_store
from autorecap.pipeline.build.bundle_writer import BundleWriter, WriterConfig
from autorecap.stages.flac import Flac
from autorecap.stages.records import Clip, Verdict, Video
from tests.support.datasets import audio_of

RATE = 8_000


def ramp(path: Path, seconds: float, channels: int = 1) -> Path:
    """Samples whose value says where they stand: second s holds s / 100."""
    values = np.arange(round(seconds * RATE)) / RATE / 100
    soundfile.write(path, np.stack([values] * channels, axis=1), RATE, subtype="PCM_24")
    return path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Three files, 2, 5 and 30 s long, the last with two captions."""
    for name, seconds in (("a", 2), ("b", 5), ("c", 30)):
        ramp(tmp_path / f"{name}.wav", seconds)
    text = "file_name,caption,title\na.wav,Rain,Roof\nb.wav,Wind,\nc.wav,A bell,Tower\nc.wav,A bell rings,\n"
    (tmp_path / "mine.csv").write_text(text)
    return tmp_path


def test_a_list_lies_beside_its_audio_or_names_the_folder(listed: Path, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("lists") / "mine.csv"
    elsewhere.write_text((listed / "mine.csv").read_text())
    odd = listed.rename(listed.with_name("to@day"))
    for data in (str(odd / "mine.csv"), f"{elsewhere}@{odd}"):
        clips = open_clips(data)
        assert [clips[i].name for i in range(len(clips))] == ["a.wav", "b.wav", "c.wav"]
        assert clips[2].captions == ("A bell", "A bell rings")


def test_a_long_file_gives_the_piece_that_was_drawn_and_a_short_one_itself(listed: Path) -> None:
    clips = open_clips(str(listed / "mine.csv"))
    for share, start in ((0.0, 0.0), (0.25, 5.0), (0.999, 19.98)):
        samples, rate = audio_of(clips[2], 10.0, share)
        assert (samples.shape, rate) == ((1, 10 * RATE), RATE)
        assert samples[0, 0] * 100 == pytest.approx(start, abs=0.01)
    assert clips[0].load(10.0, 0.7)[0].shape == (1, 2 * RATE)


def test_the_clip_of_a_whole_video_is_its_span(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,abc,30,A\n2,abc,7,B\n")
    ramp(tmp_path / "abc_7.wav", 10)  # the cut clip itself
    ramp(tmp_path / "abc.wav", 60)  # the video, for the other
    whole, cut = (open_clips(str(tmp_path / "val.csv"))[i] for i in range(2))
    assert whole.load(10.0, 0.5)[0][0, 0] * 100 == pytest.approx(30, abs=0.01)
    assert cut.load(10.0, 0.5)[0][0, 0] * 100 == pytest.approx(0, abs=0.01)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(listed: Path) -> None:
    (listed / "a.wav").write_bytes(b"no audio")
    (listed / "b.wav").unlink()
    clips = Manifest([open_clips(str(listed / "mine.csv"))])
    with pytest.raises(DataError, match="does not exist"):
        open_clips(str(listed / "other.csv"))
    with pytest.raises(UnreadableClipError, match=r"^a\.wav: .*Error"):
        clips[0].load(10.0, 0.0)


class Growing:
    """A dataset of one kept clip per video and commit."""

    def __init__(self, url: str) -> None:
        store = open_store(url)
        self.log = Log.begin(store, kind="clips", fingerprint="f", settings={})
        self.writer = BundleWriter(WriterConfig(), store)

    def add(self, row: int) -> None:
        pcm = np.full(32_000, 100 * row, "<i2").tobytes()
        about: dict[str, Any] = {
            "caption": f"Caption {row}",
            "video_caption": f"picture {row}",
            "verdict": Verdict.KEPT,
        }
        clip = Clip(start_ms=0, end_ms=1_000, audio=pcm, sample_rate_hz=32_000, num_samples=32_000, **about)
        proposal = self.writer(Flac()([Video(row=row, video_id=f"v{row}", title=f"Title {row}", clips=(clip,))]))
        self.log.commit(add=proposal.add, done=proposal.done, retry=proposal.retry)


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[str, Growing]:
    url = str(tmp_path / "dataset")
    growing = Growing(url)
    for row in range(3):
        growing.add(row)
    return url, growing


def test_a_dataset_is_read_by_its_index_and_filtered_by_sql(dataset: tuple[str, Growing]) -> None:
    url, _ = dataset
    clips = open_clips(url)
    found = {clips[i].name: clips[i] for i in range(len(clips))}
    assert sorted(found) == ["v0_0_1000", "v1_0_1000", "v2_0_1000"]
    clip = found["v2_0_1000"]
    assert (clip.captions, clip.title, clip.video_caption) == (("Caption 2",), "Title 2", "picture 2")
    samples, rate = audio_of(clip, 10.0, 0.5)
    assert (samples.shape, rate) == ((1, 32_000), 32_000)
    assert np.all(samples == np.float32(200 / 32_768))
    some = open_clips(url, where="caption like '%1' and end_ms - start_ms >= 1000")
    assert [some[i].name for i in range(len(some))] == ["v1_0_1000"]
    with pytest.raises(DataError, match="has no clips where caption = 'nothing'"):
        open_clips(url, where="caption = 'nothing'")
    with pytest.raises(BadQuery, match="no_column"):
        open_clips(url, where="no_column = 1")


def test_a_dataset_that_has_grown_is_what_it_was_for_a_run_that_knows_its_commit(dataset: tuple[str, Growing]) -> None:
    url, growing = dataset
    before = open_clips(url).identity
    growing.add(3)
    assert open_clips(url).identity != before
    assert open_clips(url, seq=before["seq"]).identity == before


def test_a_clip_whose_shard_is_gone_is_named(dataset: tuple[str, Growing]) -> None:
    url, _ = dataset
    clips = open_clips(url)
    clip = clips[0]
    for shard in Path(url, "shards").glob("*.tar"):
        shard.unlink()
    with pytest.raises(UnreadableClipError, match=rf"^{clip.name}: FileNotFoundError"):
        clip.load(10.0, 0.0)


def test_sets_stand_one_after_the_other(listed: Path) -> None:
    one = open_clips(str(listed / "mine.csv"))
    both = Manifest([one, one])
    assert [both[i].name for i in range(len(both))] == ["a.wav", "b.wav", "c.wav"] * 2


# --- examples


def test_an_example_is_a_function_of_seed_and_position(listed: Path) -> None:
    clips = open_clips(str(listed / "mine.csv"))

    def drawn(seed: int, order: range) -> dict[int, tuple[Any, ...]]:
        examples = ClipExamples(clips, ExamplesConfig(mix_p=0.4), 10.0, seed)
        out = {}
        for position in order:
            e = examples(position)
            out[position] = (e.name, e.caption, e.title, float(e.load()[0][0, 0]), e.other_share)
        return out

    assert drawn(1, range(24)) == drawn(1, range(23, -1, -1))
    assert drawn(1, range(24)) != drawn(2, range(24))


def test_every_caption_and_every_piece_gets_its_turn(listed: Path) -> None:
    examples = ClipExamples(open_clips(str(listed / "mine.csv")), ExamplesConfig(mix_p=0, drop_title_p=0.5), 10.0, 0)
    drawn = [examples(position) for position in range(300)]
    count = Counter(e.caption for e in drawn)
    assert count["Rain"] == count["Wind"] == 100
    assert 30 < count["A bell"] < 70 and count["A bell"] + count["A bell rings"] == 100
    assert 25 < sum(e.title == "" for e in drawn if e.name == "a.wav") < 75
    starts = {round(float(e.load()[0][0, 0]) * 100, 1) for e in drawn if e.name == "c.wav"}
    assert len(starts) > 50 and max(starts) <= 20


def test_mixed_clips_say_both_captions(listed: Path) -> None:
    examples = ClipExamples(open_clips(str(listed / "mine.csv")), ExamplesConfig(mix_p=0.5), 10.0, 0)
    mixed = [e for e in map(examples, range(300)) if e.other]
    assert 120 < len(mixed) < 180
    assert all(e.other and e.name == f"{e.name.split(' + ')[0]} + {e.other.name}" for e in mixed)
    assert all(len(set(e.name.split(" + "))) == 2 for e in mixed)  # never with itself
    assert {e.other_share == 0.5 for e in mixed} == {True, False}
    assert all(e.other_share == 0.5 or 0.2 <= e.other_share <= 0.4 for e in mixed)
    assert mixed_caption("A dog barks.", "Rain falls.", 0.5) == "A dog barks and rain falls"
    assert mixed_caption("A dog barks", "TV noise", 0.3) == "A dog barks and TV noise in the background"


def test_validation_hears_clips_as_they_are(listed: Path) -> None:
    examples = PlainExamples(open_clips(str(listed / "mine.csv")), 10.0)
    assert [(examples(i).caption, examples(i).title) for i in range(3)] == [
        ("Rain", "Roof"),
        ("Wind", ""),
        ("A bell", "Tower"),
    ]
    assert examples(2).load()[0][0, 0] == 0
