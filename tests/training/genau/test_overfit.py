"""What the smallest generator can learn of real recordings: sixteen of them by heart, told apart by their captions.

The runs are those of training/genau/recipe.py and training/vae/recipe.py.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from autorecap.models.genau.audio import SAMPLES_PER_LATENT, latent_frames, log_mel, prepare_clip
from autorecap.models.genau.model import GenAu
from autorecap.training.genau.recipe import GenAuTraining, train_genau
from autorecap.training.loop.config import LoopConfig
from autorecap.training.recipe import RunConfig
from autorecap.training.vae.recipe import VAETraining, train_vae
from autorecap.training.vae.task import VAETaskConfig
from tests.support.places import SHARED

pytestmark = pytest.mark.slow

KINDS = {"dog_bark": "A dog barks", "rain": "Rain falls", "rooster": "A rooster crows", "clock_tick": "A clock ticks"}
OF_EACH = 4  # learned
SECONDS = 1.28
CLOSE = 0.5
"""So near a generated log-mel is to its clip's: a share of the mean |difference| between clips."""


Sound = tuple[np.ndarray, int]


def loudest(path: Path) -> Sound:
    """The loudest part of a recording."""
    return max(parts(path), key=lambda part: float(np.square(part[0]).mean()))


def parts(path: Path) -> list[Sound]:
    """Parts of a recording, each overlapping half of the one before."""
    x_S, rate = soundfile.read(path)
    x_S = x_S if x_S.ndim == 1 else x_S.mean(axis=1)
    length = int(SECONDS * rate)
    return [(x_S[first : first + length], rate) for first in range(0, len(x_S) - length + 1, length // 2)]


def scaled(sound: Sound) -> Sound:
    x_S, rate = sound
    return 0.5 * x_S / np.abs(x_S).max(), rate


def mel_of(sound: Sound) -> Tensor:
    x_S, rate = sound
    samples = latent_frames(SECONDS) * SAMPLES_PER_LATENT
    return log_mel(prepare_clip(torch.tensor(x_S, dtype=torch.float32), rate, num_samples=samples)[None])[0]


@pytest.fixture(scope="module")
def recordings(shared_esc10: Path) -> dict[str, list[Path]]:
    with (shared_esc10 / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {kind: [shared_esc10.parent / row["path"] for row in rows if row["label"] == kind] for kind in KINDS}


@pytest.fixture(scope="module")
def shared_esc10() -> Path:
    folder = SHARED / "data" / "esc10"
    if not folder.is_dir():
        pytest.skip(f"{folder}, which holds recordings, is not there")
    return folder


@pytest.fixture(scope="module")
def learned(recordings: dict[str, list[Path]], tmp_path_factory: Any) -> tuple[GenAu, dict[str, Tensor]]:
    """A generator that has learned sixteen clips, and the log-mel of the clip of each caption."""
    folder = tmp_path_factory.mktemp("overfit")
    rows, mels = ["file_name,caption"], {}
    for kind, words in KINDS.items():
        for number, path in enumerate(recordings[kind][:OF_EACH]):
            sound = scaled(loudest(path))
            soundfile.write(folder / f"{kind}{number}.wav", *sound)
            caption = f"{words} in recording {number}"
            rows.append(f"{kind}{number}.wav,{caption}")
            mels[caption] = mel_of(sound)
    (folder / "clips.csv").write_text("\n".join(rows))
    data, run = [str(folder / "clips.csv")], RunConfig(save_every=10**6, num_samples=0)

    def loop(steps: int, lr: float) -> LoopConfig:
        return LoopConfig(
            steps=steps, batch_size=16, optimizer="adamw", lr=lr, warmup_steps=30, weight_decay=0.0, log_every=100
        )

    vae = VAETaskConfig(seconds=SECONDS, perceptual="none", kl_weight=5.0, disc_start=10**6, disc_width=8)
    train_vae(VAETraining(task=vae, loop=loop(400, 2e-3), run=run), data, folder / "vae", init="demo")
    init = str(folder / "vae" / "model")
    train_genau(GenAuTraining(loop=loop(800, 1e-3), run=run), data, folder / "genau", init=init)
    return GenAu.from_pretrained(folder / "genau" / "model"), mels


@contextmanager
def mels_of(model: GenAu) -> Iterator[list[Tensor]]:
    """What the model hands to its vocoder, which has learned nothing here."""
    made: list[Tensor] = []
    synthesise = model.vocoder.synthesise

    def keep(mel_BMT: Tensor) -> Tensor:
        made.extend(mel_BMT)
        return torch.ones(len(mel_BMT), mel_BMT.shape[2] * (SAMPLES_PER_LATENT // 4))

    model.vocoder.synthesise = keep  # type: ignore[method-assign]
    yield made
    model.vocoder.synthesise = synthesise  # type: ignore[method-assign]


def generate(model: GenAu, prompts: list[str], seed: int = 0) -> Tensor:
    with mels_of(model) as made:
        model.generate(prompts, SECONDS, num_steps=50, guidance_scale=1.5, dataset="autocap", eta=0.0, seed=seed)
    return torch.stack(made)


def test_sixteen_clips_are_learned_by_heart(learned: tuple[GenAu, dict[str, Tensor]]) -> None:
    model, mels = learned
    real_NMT = torch.stack(list(mels.values()))
    made_NMT = generate(model, list(mels))
    apart_NN = (made_NMT[:, None] - real_NMT).abs().mean(dim=(2, 3))
    between = (real_NMT[:, None] - real_NMT).abs().mean(dim=(2, 3)).sum() / (16 * 15)
    own = apart_NN.diagonal().mean()
    nearest = (apart_NN.argmin(dim=1) == torch.arange(16)).float().mean()
    print(f"from its own clip {own:.2f} nats, clips from one another {between:.2f}; nearest is its own: {nearest:.0%}")
    assert own < CLOSE * between
    assert nearest > 0.2, "chance is 6 %"


def test_each_prompt_has_its_own_sound_by_a_probe_of_real_recordings(
    learned: tuple[GenAu, dict[str, Tensor]], recordings: dict[str, list[Path]]
) -> None:
    model, _ = learned
    torch.manual_seed(0)
    heard = probe(recordings)
    prompts = [f"{words} in recording {number}" for words in KINDS.values() for number in range(OF_EACH)]
    made = [mel for seed in (1, 2) for mel in generate(model, prompts, seed)]
    truth = torch.arange(len(KINDS)).repeat_interleave(OF_EACH).repeat(2)
    right = (heard(made) == truth).float().mean()
    print(f"the probe names {right:.0%} of the sounds; chance is 25 %")
    assert right >= 0.4


def probe(recordings: dict[str, list[Path]]) -> Callable[[list[Tensor]], Tensor]:
    """Logistic regression: how loud each mel band of a log-mel is, how much that varies, and how fast."""

    def features(mels: list[Tensor]) -> Tensor:
        return torch.stack([torch.cat([mel.mean(1), mel.std(1), mel.diff(dim=1).abs().mean(1)]) for mel in mels])

    mels, kinds = [], []
    for kind, paths in enumerate(recordings.values()):
        for path in paths:
            loud = np.abs(loudest(path)[0]).max()
            found = [mel_of(scaled(part)) for part in parts(path) if np.abs(part[0]).max() > 0.1 * loud]
            mels += found
            kinds += [kind] * len(found)
    x_NF, kinds_N = features(mels), torch.tensor(kinds)
    mean_F, std_F = x_NF.mean(0), x_NF.std(0) + 1e-3
    linear = torch.nn.Linear(x_NF.shape[1], len(recordings))
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-2, weight_decay=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(linear((x_NF - mean_F) / std_F), kinds_N).backward()
        optimizer.step()
    return lambda given: linear((features(given) - mean_F) / std_F).argmax(dim=1)
