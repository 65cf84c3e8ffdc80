"""The recipe of the demo captioner: scenes out of log-mels, its three tasks, and when it replaces the bundled model.

Also proves demo/sound_bank.py, the tasks in demo/tag_task.py and demo/caption_task.py, and demo/clap_text.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from autorecap.demo import scenes, train_captioner
from autorecap.demo.caption_task import EncodedCaptionTask, EncodedScenes
from autorecap.demo.clap_text import PairTask
from autorecap.demo.sound_bank import SoundBank, _sum
from autorecap.demo.sounds import KINDS, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.demo.tag_task import TagTask
from autorecap.models.autocap import AutoCap
from autorecap.models.autocap.model import AudioFeatures, Heard
from autorecap.models.clap import TEXT_FOLDER, TEXT_SIZES, ClapText
from autorecap.training.autocap.task import AutoCapTaskConfig
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.trainer import Trainer


@pytest.fixture(scope="module")
def model() -> AutoCap:
    return AutoCap.from_pretrained(AutoCap.DEMO)


@pytest.fixture(scope="module")
def bank(model: AutoCap) -> SoundBank:
    return SoundBank(model, per_kind=1, seed=0, threads=1)


@pytest.fixture(scope="module")
def encoded(model: AutoCap, bank: SoundBank) -> EncodedScenes:
    return EncodedScenes.encode(model, bank, range(28), threads=1)


def test_mixed_log_mels_are_close_to_those_of_the_mixed_sound(model: AutoCap) -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(synthesise(kind, 3.0, rng)) for kind in ("rain", "engine"))
    mel = model.htsat.encoder.mel
    whole = mel(((a + b) / 4)[None])
    summed = _sum(mel((a / 4)[None]), mel((b / 4)[None]))
    assert float((whole - summed).abs().mean()) < 2.0  # dB; where both are equally loud, phases decide


def test_a_scene_is_a_function_of_its_position_and_shows_what_it_says(bank: SoundBank) -> None:
    first = [bank.draw(position) for position in range(42)]
    again = [bank.draw(position) for position in range(41, -1, -1)][::-1]
    for a, b in zip(first, again, strict=True):
        assert a[1:] == b[1:]
        assert all(torch.equal(x, y) for x, y in zip(a.features, b.features, strict=True))
    assert {scene.composition for scene in first} == {"single", "mix", "sequence"}
    assert [scene.kinds[0] for scene in first] == [*KINDS] * 3
    for scene in first:
        assert scene.features.htsat.shape == scene.features.clap.shape == (1, 1_001, 64)
        assert 0 < scene.spans[-1][1] <= 1 and bool(torch.isfinite(scene.features.htsat).all())
        assert (scene.spans[0][1] == scene.spans[-1][0]) == (scene.composition == "sequence")


def test_the_encoders_are_told_when_each_sound_is_there(model: AutoCap, bank: SoundBank) -> None:
    task = TagTask(AutoCap(model.config, model.tokenizer), bank)
    batch = task.batch(range(28))
    assert batch.active.shape == (28, 32, len(KINDS))
    for position, active in enumerate(batch.active):
        scene = bank.draw(position)
        assert {KINDS[k] for k in active.any(dim=0).nonzero().flatten().tolist()} == set(scene.kinds)
        both = active.sum(dim=1).max()
        assert (both == 2) == (scene.composition == "mix") or scene.composition == "sequence"
    lines: list[dict[str, float]] = []
    Trainer(task, LoopConfig(steps=2, batch_size=4, log_every=1)).run(lines.append)
    assert {"htsat_loss", "clap_loss"} <= set(lines[0])


def test_scenes_that_were_encoded_once_are_what_the_encoders_return(
    model: AutoCap, bank: SoundBank, encoded: EncodedScenes
) -> None:
    task = EncodedCaptionTask(model, encoded, AutoCapTaskConfig(frozen=("encoders",)), seed=0)
    batch = task.batch(range(4))
    assert isinstance(batch.audio, Heard) and len(set(batch.names)) == 4
    drawn = [bank.draw(int(name.removeprefix("scene "))) for name in batch.names]
    with torch.no_grad():
        fresh = model.hear(AudioFeatures(*(torch.cat([scene.features[i] for scene in drawn]) for i in range(2))))
    torch.testing.assert_close(batch.audio.vectors, fresh.vectors, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(batch.audio.clap, fresh.clap, atol=1e-2, rtol=1e-2)
    assert torch.isfinite(task.module(batch).loss)


def test_the_text_tower_learns_which_text_belongs_to_which_sound(model: AutoCap, encoded: EncodedScenes) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    text = ClapText(TEXT_SIZES["demo"], model.tokenizer)
    lines: list[dict[str, float]] = []
    settings = LoopConfig(steps=40, batch_size=28, lr=2e-3, log_every=1)
    Trainer(PairTask(text, encoded, 0), settings).run(lines.append)
    assert lines[-1]["contrast"] < lines[0]["contrast"] / 2 and lines[-1]["cosine"] > 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_captioner_that_hears_too_little_replaces_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {condition: dict.fromkeys(KINDS, 1.0) for condition in train_captioner.MIN_ACCURACY}
    shares["misled"] = dict.fromkeys(KINDS, 0.89)
    monkeypatch.setattr(train_captioner, "evaluate", lambda model: shares)
    monkeypatch.setattr(
        train_captioner, "retrieval", lambda model, text: dict.fromkeys(("right", "texts", "fitting", "other"), 0.5)
    )
    (tmp_path / "config.json").write_text("the good one")
    small = [
        "--sounds",
        "1",
        "--tag-steps",
        "1",
        "--scenes",
        "4",
        "--steps",
        "1",
        "--text-steps",
        "1",
        "--batch-size",
        "2",
    ]
    assert train_captioner.main(["--out", str(tmp_path), *small]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "the good one"
    assert "is left as it is: misled 89.0% (at least 97%)" in capsys.readouterr().out


def test_the_bundled_clap_reads_what_it_hears(model: AutoCap) -> None:
    text = ClapText.from_pretrained(AutoCap.DEMO / TEXT_FOLDER)
    found = train_captioner.retrieval(model, text, num_scenes=56)
    assert found["right"] >= 0.6 and found["fitting"] > found["other"] + 0.5
    with torch.inference_mode():
        sound = synthesise("dog", 4.0, np.random.default_rng(9))
        x_BS = model.prepare([scenes.degrade(sound, np.random.default_rng(1))], SAMPLE_RATE_HZ)
        cosines = model.clap(model.features(x_BS).clap) @ text.embed(["A dog barks", "Rain falls on a surface"]).T
    assert cosines[0, 0] > cosines[0, 1] + 0.3
