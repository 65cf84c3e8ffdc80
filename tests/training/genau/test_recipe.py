"""Training of VAE, vocoder and GenAu: batches, runs, what they leave behind.

Also proves training/genau/task.py, training/vae/recipe.py, training/vae/task.py, training/vocoder/recipe.py,
training/vocoder/task.py, and what these share: training/sound_recipe.py and training/generator_inputs.py.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from autorecap.dataset.reading.examples import ClipExamples, ExamplesConfig
from autorecap.dataset.reading.manifest import open_manifest
from autorecap.demo.sounds import synthesise
from autorecap.models.files import WEIGHTS, read_weights
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.vae.perceptual import Lpips
from autorecap.training.checkpoint import checkpoint
from autorecap.training.genau.recipe import GenAuTraining, train_genau
from autorecap.training.genau.task import GenAuTask, GenAuTaskConfig
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.trainer import Trainer
from autorecap.training.recipe import RunConfig, RunError
from autorecap.training.vae.recipe import VAETraining, train_vae
from autorecap.training.vae.task import VAETask, VAETaskConfig
from autorecap.training.vocoder.recipe import VocoderTraining, train_vocoder
from autorecap.training.vocoder.task import VocoderTask, VocoderTaskConfig

KINDS = ("rain", "siren", "dog", "clock")
SECONDS = (1.28, 1.28, 0.7, 0.3)

RUN = RunConfig(save_every=2, validate_every=2, sample_every=3, num_samples=2)
VAE_TASK = VAETaskConfig(seconds=1.28, disc_start=1, disc_width=8)
VOCODER_TASK = VocoderTaskConfig(seconds=1.28, segment_frames=16, disc_periods=(2, 3), disc_scales=2, disc_width=16)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> str:
    """Four synthesised sounds of several lengths, with captions."""
    folder = tmp_path_factory.mktemp("sounds")
    rows = ["file_name,caption"]
    for number, (kind, seconds) in enumerate(zip(KINDS, SECONDS, strict=True)):
        soundfile.write(folder / f"{kind}.wav", synthesise(kind, seconds, np.random.default_rng(number)), 32_000)
        rows.append(f"{kind}.wav,The sound of a {kind}")
    (folder / "mine.csv").write_text("\n".join(rows))
    return str(folder / "mine.csv")


def loop(**changes: Any) -> LoopConfig:
    return LoopConfig(**{"steps": 3, "batch_size": 4, "lr": 1e-3, "log_every": 1, "threads": 1} | changes)


def examples(data: str) -> ClipExamples:
    return ClipExamples(open_manifest([data]), replace(ExamplesConfig(), mix_p=0.0), 10.24, 0)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# --- runs


@pytest.fixture(scope="module")
def runs(data: str, tmp_path_factory: Any) -> Path:
    """VAE, vocoder and GenAu, one after the other, each from the folder of the one before."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs")
    options = {"validation_data": [data], "say": lambda text: None}
    train_vae(VAETraining(task=VAE_TASK, loop=loop(), run=RUN), [data], out / "vae", init="demo", **options)
    vae = str(out / "vae" / "model")
    vocoder = VocoderTraining(task=VOCODER_TASK, loop=loop(), run=RUN)
    train_vocoder(vocoder, [data], out / "vocoder", init=vae, **options)
    task = GenAuTaskConfig(sample_seconds=1.0, sample_steps=2)
    genau = GenAuTraining(task=task, loop=loop(ema_decay=0.9), run=RUN)
    train_genau(genau, [data], out / "genau", init=str(out / "vocoder" / "model"), **options)
    return out


def test_each_stage_learns_its_part_and_leaves_the_others_their_bits(runs: Path) -> None:
    models = [
        GenAu.new("demo"),
        *(GenAu.from_pretrained(runs / name / "model") for name in ("vae", "vocoder", "genau")),
    ]
    parts = [{name: tensors(getattr(m, name)) for name in ("vae", "vocoder", "backbone", "text")} for m in models]
    for number, learned in enumerate(("vae", "vocoder", "backbone")):
        for name, before in parts[number].items():
            assert equal(before, parts[number + 1][name]) == (name != learned), (learned, name)
    assert models[2].scale_factor == 1 and models[3].scale_factor != 1


def test_a_run_leaves_logs_samples_and_a_page(runs: Path) -> None:
    for name, numbers in (
        ("vae", ("l1", "kl", "adversarial", "discriminator_loss", "discriminator_disc_real")),
        ("vocoder", ("mel_loss", "features", "discriminators_loss")),
        ("genau", ("mfu", "waited_share", "memory_gb", "eta_s", "lr", "samples_per_s")),
    ):
        logged = rows(runs / name / "log.jsonl")
        train = [row for row in logged if row["kind"] == "train"]
        held_out = [row for row in logged if row["kind"] == "validation"]
        assert [row["step"] for row in train] == [1, 2, 3] and [row["step"] for row in held_out] == [2, 3]
        assert all(np.isfinite(train[-1][number]) for number in (*numbers, "loss", "grad_norm")), train[-1]
        assert all(np.isfinite(row["validation_loss"]) for row in held_out)
        with (runs / name / "log.csv").open(newline="") as file:
            assert [float(row["loss"]) for row in csv.DictReader(file)] == [row["loss"] for row in train]
        prompts = json.loads((runs / name / "samples" / "3" / "prompts.json").read_text())
        assert len(prompts) == 2
        for number in range(2):
            samples, rate = soundfile.read(runs / name / "samples" / "3" / f"{number}.wav")
            assert rate == 16_000 and len(samples) >= 16_000
        assert "data:audio/wav;base64" in (runs / name / "report.html").read_text()
    bins = [name for name in held_out[-1] if name.startswith("validation_loss_t")]
    assert bins[0] == "validation_loss_t0_99" and len(bins) == 10


def test_a_resumed_run_of_adversaries_ends_with_the_same_bits(runs: Path, data: str, tmp_path: Path) -> None:
    """Discriminator, its running statistics and both optimisers are in the checkpoint."""
    config = VAETraining(task=VAE_TASK, loop=loop(), run=RUN)
    options: dict[str, Any] = {"validation_data": [data], "say": lambda text: None, "init": "demo"}

    class Stopped(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("step      3"):
            raise Stopped

    with pytest.raises(Stopped):
        train_vae(config, [data], tmp_path, **options | {"say": stop})
    assert [found.step for found in checkpoint.all_in(tmp_path / "checkpoints")] == [2]
    train_vae(config, [data], tmp_path, resume=True, **options)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (tmp_path, runs / "vae")]
    assert weights[0] == weights[1]


def test_what_cannot_be_trained_is_said(runs: Path, data: str, tmp_path: Path) -> None:
    def refused(message: str, train: Callable[..., Any], config: Any, **changes: Any) -> None:
        with pytest.raises(RunError, match=message):
            train(config, **{"data": [data], "out": tmp_path / "run", "init": "demo"} | changes)

    refused("--init is missing: .*the size of a new one: demo, s, l", train_genau, GenAuTraining(loop=loop()), init="")
    refused("a new GenAu of size s needs text encoders", train_genau, GenAuTraining(loop=loop()), init="s")
    refused(
        "dataset 'gone' is not one of", train_genau, GenAuTraining(task=GenAuTaskConfig(dataset="gone"), loop=loop())
    )
    silent = tmp_path / "silent"
    silent.mkdir()
    (silent / "a.wav").write_bytes(b"no sound")
    (silent / "mine.csv").write_text("file_name,caption\na.wav,Rain\n")
    refused(
        "none of 1 clips of the data can be read; the first: a.wav",
        train_genau,
        GenAuTraining(loop=loop()),
        data=[str(silent / "mine.csv")],
    )
    refused("logs and samples need a folder", train_vae, VAETraining(loop=loop()), out="s3://bucket/run")


# --- tasks


def test_a_style_that_the_model_does_not_know_is_said_once(data: str, tmp_path: Path) -> None:
    said: list[str] = []
    genau = GenAuTraining(
        task=GenAuTaskConfig(sample_steps=2), loop=loop(steps=1, batch_size=9), run=replace(RUN, num_samples=0)
    )
    train_genau(genau, [f"audiocap:1={data}", f"clotho:2={data}"], tmp_path, init="demo", say=said.append)
    assert GenAu.from_pretrained(tmp_path / "model").config.default_dataset == "clotho", "most of the turns"
    assert any("a batch of 9 is more than the 8 clips" in line for line in said)
    (line,) = [line for line in said if "style" in line]
    assert line.startswith("the model knows no style 'audiocap', only audiocaps, ")
    assert line.endswith("learned as 'autocap', as task.dataset says")


def test_a_batch_is_a_function_of_its_positions_alone(data: str) -> None:
    task = GenAuTask(GenAu.new("demo"), examples(data), GenAuTaskConfig(drop_condition_p=0.5))
    whole, part = task.batch(range(4, 12)), task.batch(range(6, 8))
    assert whole.names[2:4] == part.names and whole.frames[2:4] == part.frames
    assert torch.equal(whole.timesteps_B[2:4], part.timesteps_B)
    assert torch.equal(whole.dropped_B[2:4], part.dropped_B)
    for a, b in zip(
        (*whole.noise[2:4], *whole.posterior_noise[2:4]), (*part.noise, *part.posterior_noise), strict=True
    ):
        assert torch.equal(a, b)
    assert not torch.equal(whole.noise[0][:, :5], whole.posterior_noise[0][:, :5])
    assert len(set(whole.timesteps_B.tolist())) > 4 and 0 < whole.dropped_B.sum() < 8


def test_a_clip_weighs_the_same_alone_and_padded_among_longer_ones(data: str) -> None:
    model = GenAu.new("demo")
    task = GenAuTask(model, examples(data), GenAuTaskConfig(drop_condition_p=0.0))
    task.module.eval()
    cpu = torch.device("cpu")
    together = task.module(task.to(task.batch(range(4)), cpu))
    alone = [task.module(task.to(task.batch(range(p, p + 1)), cpu)) for p in range(4)]
    assert together.weight == sum(each.weight for each in alone)
    mean = sum(each.loss.item() * each.weight for each in alone) / together.weight
    assert together.loss.item() == pytest.approx(mean, rel=1e-5)
    assert together.flops == sum(each.flops for each in alone) > 0


def test_the_discriminator_of_the_vae_begins_in_its_step(data: str) -> None:
    task = VAETask(GenAu.new("demo").vae, examples(data), replace(VAE_TASK, disc_start=2))
    discriminator: Any = task.module.loss.discriminator
    trainer = Trainer(task, loop())
    before = tensors(discriminator)
    trainer.run(lambda line: None, until=2)
    assert equal(before, tensors(discriminator))
    trainer.run(lambda line: None, until=3)
    assert not equal(before, tensors(discriminator))


def test_the_vae_learns_by_the_released_perceptual_distance_where_its_weights_are(data: str, tmp_path: Path) -> None:
    weights = {name: t.abs() if name.startswith("lin") else t for name, t in Lpips().state_dict().items()}
    scaled = {"loss.perceptual_loss." + name: tensor for name, tensor in weights.items()}
    torch.save({"state_dict": {"encoder.x": torch.zeros(1), **scaled}}, tmp_path / "vae.ckpt")
    task = replace(VAE_TASK, perceptual="lpips", lpips=(str(tmp_path / "vae.ckpt"),))
    train_vae(VAETraining(task=task, loop=loop(steps=1), run=RUN), [data], tmp_path / "run", init="demo")
    (row,) = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert float(row["perceptual"]) > 0
    saved = read_weights(tmp_path / "run" / "model" / WEIGHTS)
    assert not any("perceptual" in name for name in saved)
    torch.save({name: 2 * tensor for name, tensor in scaled.items()}, tmp_path / "vae.ckpt")
    with pytest.raises(checkpoint.OtherRunError, match=r"task\.lpips"):
        train_vae(VAETraining(task=task, loop=loop(steps=1)), [data], tmp_path / "run", init="demo", resume=True)
    torch.save({name: tensor for name, tensor in scaled.items() if "lin3" not in name}, tmp_path / "vae.ckpt")
    with pytest.raises(RunError, match=r"task\.lpips: .*vae\.ckpt: .*lin3"):
        train_vae(VAETraining(task=task, loop=loop(steps=1)), [data], tmp_path / "other", init="demo")


def test_a_bad_clip_stops_neither_player(data: str) -> None:
    said: list[str] = []
    task = VocoderTask(GenAu.new("demo").vocoder, examples(data), VOCODER_TASK)
    plain = task.batch

    def batch(positions: range) -> Any:
        made = plain(positions)
        if 4 in positions:
            made.x_BS[0] = float("nan")
        return made

    task.batch = batch  # type: ignore[method-assign]
    trainer = Trainer(task, loop(micro_batch_size=2), say=said.append)
    trainer.run(lambda line: None, until=1)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    trainer.run(lambda line: None, until=2)
    assert equal(before, dict(trainer.tensors()))
    assert len(said) == 1 and said[0].startswith("step 1: skipped, loss or gradient is not finite; clips: ")
    trainer.run(lambda line: None, until=3)
    assert not equal(before, dict(trainer.tensors()))
