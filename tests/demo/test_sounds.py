"""The synthesised sounds, what is written about them, and the scenes made of both."""

import re

import numpy as np
import pytest

from autorecap.demo import scenes, sentences
from autorecap.demo.sounds import AMBIENT, KINDS, MUSIC, SPEECH, follow, mix, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ

SPEECH_WORDS = r"\b(speak|speech|talk|voice|say|convers|narrat|chat|whisper|announc|shout|yell)"
MUSIC_WORDS = r"\b(music|melod|song|sing|sang|play|tune|instrument|guitar|piano|drum)"


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_is_a_function_of_its_seed(kind: str) -> None:
    sound = synthesise(kind, 2.0, rng(1))
    assert sound.dtype == np.float32
    assert sound.shape == (2 * SAMPLE_RATE_HZ,)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() == pytest.approx(0.8, abs=1e-4)
    assert np.array_equal(sound, synthesise(kind, 2.0, rng(1)))
    assert not np.allclose(sound, synthesise(kind, 2.0, rng(2)), atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_no_second_of_a_sound_is_silent(kind: str) -> None:
    for seed in range(4):
        sound = synthesise(kind, 6.0, rng(seed))
        peaks = np.abs(sound.reshape(6, -1)).max(axis=1)
        assert peaks.min() > 0.03


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.01, 0.37, 1.0])
def test_sounds_may_be_short(kind: str, seconds: float) -> None:
    assert len(synthesise(kind, seconds, rng(0))) == round(seconds * SAMPLE_RATE_HZ)


def test_an_unknown_sound_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="choose one of rain, wind"):
        synthesise("thunder", 1.0, rng(0))
    with pytest.raises(ValueError, match="no samples"):
        synthesise("rain", 0.0, rng(0))


def test_a_mix_holds_both_and_a_sequence_one_after_the_other() -> None:
    low, high = (
        np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ).astype(np.float32) for hz in (500, 4_000)
    )

    def level(x: np.ndarray, hz: int) -> float:
        return float(np.abs(np.fft.rfft(x))[round(hz * len(x) / SAMPLE_RATE_HZ)])

    both = mix(low, high, background_db=-20)
    assert level(both, 4_000) / level(both, 500) == pytest.approx(0.1, rel=0.02)
    one_then_other = follow(low, high, crossfade_s=0.05)
    assert len(one_then_other) == round(1.95 * SAMPLE_RATE_HZ)
    first, last = one_then_other[:16_000], one_then_other[-16_000:]
    assert level(first, 500) > 100 * level(first, 4_000)
    assert level(last, 4_000) > 100 * level(last, 500)


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
    assert set(AMBIENT) | set(SPEECH) | set(MUSIC) == set(KINDS)


def test_scenes_are_functions_of_seed_and_index() -> None:
    for index in range(28):
        scene = scenes.draw_scene(7, index)
        kinds, composition, _ = scenes.choose_scene(7, index)
        assert (scene.kinds, scene.composition) == (kinds, composition)
        assert KINDS[index % len(KINDS)] == kinds[0]
        assert len(kinds) == (1 if composition == "single" else 2)
        assert 0.9 <= len(scene.waveform) / SAMPLE_RATE_HZ <= 10.0
        assert np.isfinite(scene.waveform).all()
        if index < 5:
            assert np.array_equal(scene.waveform, scenes.draw_scene(7, index).waveform)


def test_titles_are_empty_generic_right_or_wrong() -> None:
    titles = [sentences.title(["dog"], rng(seed)) for seed in range(400)]
    about_dogs = {sentences.informative_title("dog", rng(seed)) for seed in range(30)}
    assert 0.3 < titles.count("") / 400 < 0.5
    assert 0.08 < sum(title in about_dogs for title in titles) / 400 < 0.25
    assert all(sentences.misleading_title(["dog"], rng(seed)) not in about_dogs for seed in range(50))


def test_a_low_pass_removes_what_is_above() -> None:
    noise = rng(0).standard_normal(32_000).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(scenes.low_pass(noise, 5_000)))
    assert spectrum[6_000:].mean() < 0.02 * spectrum[:4_000].mean()


def test_every_epoch_holds_each_scene_once_in_an_order_of_its_own() -> None:
    epochs = [[scenes.scene_at(5, epoch * 50 + place, 50) for place in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [scenes.scene_at(5, position, 50) for position in (149, 3, 77)] == [
        epochs[2][49],
        epochs[0][3],
        epochs[1][27],
    ]
    assert epochs[0] != [scenes.scene_at(6, place, 50) for place in range(50)]
