"""Scenes are functions of seed and index, and every epoch holds each of them once."""

import numpy as np

from autorecap.demo import scenes
from autorecap.demo.sounds import KINDS
from autorecap.demo.synthesis import SAMPLE_RATE_HZ


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


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
