"""Examples drawn from clips: functions of seed and position, in which every caption and piece gets its turn."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig, PlainExamples, mixed_caption
from tests.support.datasets import open_clips
from tests.support.sound_files import list_of_three


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """The folder of `list_of_three`."""
    return list_of_three(tmp_path).parent


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
