"""Clips to train on, from lists: whole or in pieces, and named where they cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from autorecap.dataset.reading.clips import DataError, UnreadableClipError
from autorecap.dataset.reading.manifest import Manifest
from tests.support.datasets import audio_of, open_clips
from tests.support.sound_files import RATE, list_of_three, ramp


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The folder of `list_of_three`."""
    return list_of_three(tmp_path).parent


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


def test_sets_stand_one_after_the_other(listed: Path) -> None:
    one = open_clips(str(listed / "mine.csv"))
    both = Manifest([one, one])
    assert [both[i].name for i in range(len(both))] == ["a.wav", "b.wav", "c.wav"] * 2
