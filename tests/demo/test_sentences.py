"""Sentences about synthesised sounds: captions name what is there and nothing else, titles may mislead."""

import re

import numpy as np
import pytest

from autorecap.demo import sentences
from autorecap.demo.sounds import KINDS, MUSIC, SPEECH

SPEECH_WORDS = r"\b(speak|speech|talk|voice|say|convers|narrat|chat|whisper|announc|shout|yell)"

MUSIC_WORDS = r"\b(music|melod|song|sing|sang|play|tune|instrument|guitar|piano|drum)"


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_captions_name_their_sounds(kind: str) -> None:
    for seed in range(20):
        other = KINDS[(KINDS.index(kind) + 1 + seed) % len(KINDS)]
        assert sentences.names(sentences.caption([kind], "single", rng(seed)), kind)
        for composition in ("mix", "sequence"):
            text = sentences.caption([kind, other], composition, rng(seed))
            assert sentences.names(text, kind)
            assert sentences.names(text, other)


def test_a_caption_of_one_sound_names_no_other() -> None:
    for kind in KINDS:
        for seed in range(20):
            text = sentences.caption([kind], "single", rng(seed))
            assert [k for k in KINDS if sentences.names(text, k)] == [kind]


def test_only_captions_of_speech_and_music_have_words_for_them() -> None:
    for kind in KINDS:
        for seed in range(20):
            text = sentences.caption([kind], "single", rng(seed)).lower()
            assert bool(re.search(SPEECH_WORDS, text)) == (kind in SPEECH), text
            assert bool(re.search(MUSIC_WORDS, text)) == (kind in MUSIC), text


def test_titles_are_empty_generic_right_or_wrong() -> None:
    titles = [sentences.title(["dog"], rng(seed)) for seed in range(400)]
    about_dogs = set(sentences._TITLES["dog"])
    assert 0.3 < titles.count("") / 400 < 0.5
    assert 0.08 < sum(title in about_dogs for title in titles) / 400 < 0.25
    assert all(sentences.misleading_title(["dog"], rng(seed)) not in about_dogs for seed in range(50))
