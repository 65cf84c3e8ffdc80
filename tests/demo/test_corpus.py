"""The demo's corpus: what its transcripts say is what its videos hold.

Also proves demo/transcripts.py, which writes every format.
"""

from dataclasses import replace

import pytest

from autorecap.demo.corpus import CORPUS, Part, soundtrack, synthesise_corpus
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.demo.transcripts import FORMATS, collapsed_json3
from autorecap.stages.reasons import Reason
from autorecap.stages.segments import SegmentsConfig, segment
from autorecap.stages.transcript_files.read import read_transcript

VIDEO = CORPUS[0]


def segmented(text: str, name: str):
    return segment(read_transcript(text.encode(), name).cues, round(VIDEO.seconds * 1000), SegmentsConfig())


@pytest.mark.parametrize("ending", FORMATS)
def test_every_transcript_format_gives_the_gaps_of_the_timeline(ending):
    assert list(segmented(FORMATS[ending](VIDEO.lines), f"v.{ending}").gaps_ms) == VIDEO.gaps_ms


def test_a_collapsed_transcript_is_told_from_a_sound_one():
    late = replace(VIDEO, parts=(Part("rain", 15), Part("speech_man", 9)))
    assert segmented(collapsed_json3(late.lines), "v.en.json3").reason is Reason.COLLAPSED_TRANSCRIPT
    assert segmented(FORMATS["en.json3"](late.lines), "v.en.json3").reason is None


def test_the_corpus_holds_what_can_happen():
    assert len(CORPUS) >= 16 and len({video.name for video in CORPUS}) == len(CORPUS)
    assert {video.container for video in CORPUS} >= {"webm", "mp4", "ogg", "m4a"}
    assert {video.transcript for video in CORPUS} >= FORMATS.keys()
    assert any(video.name.startswith("-") for video in CORPUS)


def test_the_same_seed_gives_the_same_sounds_and_files(tmp_path):
    assert (soundtrack(VIDEO, 1) == soundtrack(VIDEO, 1)).all()
    assert len(soundtrack(VIDEO, 1)) == VIDEO.seconds * SAMPLE_RATE_HZ
    for name in ("a", "b"):
        synthesise_corpus(tmp_path / name, CORPUS[:2])
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 6
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
