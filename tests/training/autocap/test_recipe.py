"""AutoCap as a task: what learns and what does not, batches, whole runs, resume after a kill, bad clips.

Also proves training/autocap/task.py, and training/run.py and training/recipe.py, which all trainings share.
"""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from autorecap.dataset.reading.clips import DataError
from autorecap.dataset.reading.examples import ClipExamples, Example, ExamplesConfig
from autorecap.demo import sentences
from autorecap.demo.sounds import synthesise
from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer
from autorecap.models.autocap.model import AudioFeatures
from autorecap.training.autocap.recipe import AutoCapTraining, train_autocap
from autorecap.training.autocap.task import AutoCapTask, AutoCapTaskConfig
from autorecap.training.checkpoint import checkpoint
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.trainer import Trainer, TrainingStoppedError
from autorecap.training.recipe import RunConfig, RunError
from tests.support.datasets import open_clips
from tests.support.places import PROJECT

KINDS = ("rain", "siren", "dog", "clock")
STAGES = {1: ("encoders", "bart"), 2: ("encoders", "embeddings")}
BRIDGE = (
    "qformer.",
    "audio_in.",
    "audio_out.",
    "audio_positions.",
    "audio_norm.",
    "clap_in.",
    "clap_norm.",
    "tags.",
    "eoa",
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> str:
    """A folder of four synthesised sounds with their captions."""
    folder = tmp_path_factory.mktemp("sounds")
    rows = ["file_name,caption,title"]
    for number, kind in enumerate(KINDS):
        sound = synthesise(kind, 1.0, np.random.default_rng(number))
        soundfile.write(folder / f"{kind}.wav", sound, 32_000)
        rows.append(f"{kind}.wav,{sentences.caption([kind], 'single', np.random.default_rng(0))},Clip {number}")
    (folder / "mine.csv").write_text("\n".join(rows))
    return str(folder / "mine.csv")


def small(**changes: Any) -> AutoCap:
    """The demo's size from nothing, with the noise of training in its encoders too."""
    torch.manual_seed(0)
    size = SIZES["demo"]
    noisy: dict[str, Any] = {"drop_path": 0.3, "dropout": 0.1}
    size = dataclasses.replace(
        size, htsat=dataclasses.replace(size.htsat, **noisy), clap=dataclasses.replace(size.clap, **noisy), **changes
    )
    return AutoCap(size, CaptionTokenizer.train(sentences.corpus(), size.bart.vocab))


def task_of(model: AutoCap, data: str, frozen: tuple[str, ...], **changes: Any) -> AutoCapTask:
    examples = ClipExamples(open_clips(data), ExamplesConfig(**changes), model.config.window_s, 0)
    return AutoCapTask(model, examples, AutoCapTaskConfig(frozen=frozen))


def loop(**changes: Any) -> LoopConfig:
    usual: dict[str, Any] = {"steps": 3, "batch_size": 4, "lr": 1e-3, "optimizer": "adam", "log_every": 1}
    return LoopConfig(**(usual | changes))


def tensors(model: AutoCap) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# --- what learns


@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_frozen_keeps_its_bits_over_real_steps_and_all_else_learns(data: str, stage: int) -> None:
    """Batch norms' statistics among them. (The released code lets 8.6 million frozen weights move.)"""
    model = small()
    before = tensors(model)
    Trainer(task_of(model, data, STAGES[stage]), loop(weight_decay=1e-2)).run(lambda line: None)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    may = BRIDGE if stage == 1 else (*BRIDGE, "bart.model.encoder.l", "bart.model.decoder.l")
    assert {name for name in moved if not name.startswith(may)} == set()
    embeddings = {name for name in before if "shared" in name or "embed_" in name or "lm_head" in name}
    assert embeddings and not embeddings & moved
    assert {name for name in before if name.startswith(may)} - moved == set()


@pytest.mark.parametrize("stage", [1, 2])
def test_gradients_flow_into_what_learns_alone(data: str, stage: int) -> None:
    task = task_of(small(), data, STAGES[stage], drop_title_p=0)
    scored = task.module(task.to(task.batch(range(4)), torch.device("cpu")))
    scored.loss.backward()
    got = {n for n, p in task.model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    wanted = {n for n, p in task.model.named_parameters() if p.requires_grad}
    # The keys' biases cancel in every softmax.
    assert got <= wanted and all(n.endswith(("key.bias", "k_proj.bias")) for n in wanted - got)
    assert scored.weight == int((task.batch(range(4)).labels >= 0).sum())


def test_frozen_encoders_hear_the_same_in_training_as_in_use(data: str) -> None:
    task = task_of(small(), data, STAGES[1])
    task.module.train()
    mels = AudioFeatures(torch.randn(2, 1_001, 64), torch.randn(2, 1_001, 64))
    a, b = task.model.hear(mels), task.model.hear(mels)
    assert torch.equal(a.vectors, b.vectors) and torch.equal(a.clap, b.clap)
    assert task.model.qformer.training and task.model.bart.training
    free = task_of(small(), data, ())
    free.module.train()
    assert free.model.htsat.training


# --- batches


def test_a_batch_is_a_function_of_its_positions(data: str) -> None:
    task = task_of(small(), data, (), mix_p=0.5)
    whole, parts = task.batch(range(2, 8)), [task.batch(range(2, 5)), task.batch(range(5, 8))]
    for name in ("names", "audio", "stripes"):
        a, (b, c) = getattr(whole, name), (getattr(part, name) for part in parts)
        assert a == b + c if isinstance(a, tuple) else torch.equal(a, torch.cat([b, c]))
    assert any(" + " in name for name in whole.names)
    assert whole.audio.abs().amax(dim=1).tolist() == pytest.approx([0.5] * 6, abs=1e-3)


def test_masked_stripes_reach_the_encoder_as_nothing(data: str) -> None:
    """Where a stripe lies, batch norm gives zero, whatever its statistics and weights are; CLAP hears all."""
    task = task_of(small(), data, STAGES[1])
    norm = task.model.htsat.encoder.swin.batch_norm
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        tensor.uniform_(0.5, 2.0)
    batch = task.batch(range(4))
    whole = task.to(batch._replace(stripes=None), torch.device("cpu")).audio
    masked = task.to(batch, torch.device("cpu")).audio
    assert torch.equal(whole.clap, masked.clap)
    assert batch.stripes is not None
    hidden = batch.stripes[:, :1_001, None] | batch.stripes[:, None, 1_001:]
    assert torch.equal(whole.htsat[~hidden], masked.htsat[~hidden])
    norm.eval()
    normed = norm(masked.htsat.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    assert float(normed[hidden].abs().max()) < 1e-5 < 0.01 < float(hidden.float().mean()) < 0.5


def test_the_captioner_learns_new_words_for_a_few_clips(data: str) -> None:
    """With its encoders frozen, as in stage 2, it says of four sounds what it never said of any."""
    texts = {
        "rain.wav": "Peas drop",
        "siren.wav": "A wolf howls",
        "dog.wav": "Someone saws wood",
        "clock.wav": "Dripping",
    }
    model = AutoCap.from_pretrained(AutoCap.DEMO)
    task = task_of(model, data, ("encoders",), mix_p=0, drop_title_p=0)
    heard_as = task.examples
    task.examples = lambda position: dataclasses.replace(e := heard_as(position), caption=texts[e.name])
    losses: list[float] = []
    settings = loop(steps=60, lr=2e-3, warmup_steps=5, optimizer="adamw", weight_decay=0.01)
    Trainer(task, settings).run(lambda line: losses.append(line["loss"]))
    examples = [task.examples(position) for position in range(4)]
    captions = model.caption([e.load()[0] for e in examples], 32_000, [e.title for e in examples])
    assert losses[-1] < losses[0] / 3
    assert captions == [e.caption for e in examples]


# --- whole runs


def settings(**changes: Any) -> AutoCapTraining:
    return AutoCapTraining(
        loop=loop(**{"steps": 6, "threads": 1} | changes),
        run=RunConfig(save_every=2, validate_every=4, validation_captions=1),
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_ends_with_a_model_logs_and_captions_beside_their_targets(data: str, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = train_autocap(settings(), [data], tmp_path, init="demo", validation_data=[data], say=said.append)
    assert outcome.step == 6 and Path(outcome.model) == tmp_path / "model"
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == list("123456")
    assert [row["step"] for row in rows(tmp_path / "validation.csv")] == ["4", "6"]
    assert "frozen: encoders, bart" in said[0] and "4 clips to learn from" in said[0]
    assert any("rain.wav: " in text and "written by people: 'Rain" in text for text in said)
    before, after = AutoCap.from_pretrained(AutoCap.DEMO), AutoCap.from_pretrained(outcome.model)
    for name, tensor in after.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]) != name.startswith(BRIDGE), name
    stage2 = AutoCapTraining(task=AutoCapTaskConfig(frozen=STAGES[2]), loop=loop(steps=1))
    assert train_autocap(stage2, [data], tmp_path / "2", init=outcome.model, say=said.append).step == 1


def test_a_run_that_was_killed_goes_on_bit_for_bit(data: str, tmp_path: Path) -> None:
    """kill -9 after a checkpoint and before the end: weights and logged losses are those of a run left alone."""
    whole = train_autocap(settings(), [data], tmp_path / "whole", init="demo", say=lambda text: None)
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, data, str(tmp_path / "killed")],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    until(lambda: checkpoint.all_in(tmp_path / "killed" / "checkpoints"), child)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    reached = checkpoint.all_in(tmp_path / "killed" / "checkpoints")[-1].name
    assert reached < "step-00000006"
    with pytest.raises(RunError, match=rf"reached {reached}: add --resume"):
        train_autocap(settings(), [data], tmp_path / "killed", init="demo", say=lambda text: None)
    resumed = train_autocap(settings(), [data], tmp_path / "killed", init="demo", resume=True, say=lambda text: None)
    files = [Path(outcome.model, "model.safetensors").read_bytes() for outcome in (whole, resumed)]
    assert files[0] == files[1]
    logged = [
        [(row["step"], row["loss"], row["grad_norm"]) for row in rows(tmp_path / name / "log.csv")]
        for name in ("whole", "killed")
    ]
    assert logged[0] == logged[1]


_CHILD = """
import sys, time
from autorecap.training.autocap.recipe import train_autocap
from tests.training.autocap.test_recipe import settings

def say(text):
    print(text, flush=True)
    if text.startswith("step      3"):
        time.sleep(600)  # long enough to be killed here, on a busy machine too

train_autocap(settings(), [sys.argv[1]], sys.argv[2], init="demo", say=say)
"""


def test_sigterm_saves_a_checkpoint_and_the_run_says_how_to_go_on(data: str, tmp_path: Path) -> None:
    train = "from autorecap.cli.train import train; train()"
    command = [sys.executable, "-c", train, "autocap", "--data", data, "--out", str(tmp_path / "run")]
    command += ["--init", "demo", "--set", "loop.steps=1000", "--set", "loop.batch_size=2", "--set", "loop.log_every=1"]
    child = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "run" / "log.csv").exists(), child)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=300)
    assert child.returncode == 130 and "--resume goes on from there" in errors
    (saved,) = checkpoint.all_in(tmp_path / "run" / "checkpoints")
    assert json.loads(Path(saved.url, checkpoint.STATE).read_text())["step"] == int(saved.name[5:])


def until(condition: Any, child: subprocess.Popen) -> None:
    for _ in range(3_000):
        if condition():
            return
        assert child.poll() is None, "it ended too early"
        time.sleep(0.1)
    raise AssertionError("it took too long")


def test_a_clip_of_nan_is_skipped_by_name_and_stops_the_run_when_repeated(data: str, tmp_path: Path) -> None:
    """NaN samples make a clip unreadable; a loss that is not finite is the loop's to skip."""
    bad = np.full(32_000, np.nan, np.float32)
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "nan.wav", bad, 32_000, subtype="FLOAT")
    (folder / "nan.csv").write_text("file_name,caption\nnan.wav,Nothing\n")
    said: list[str] = []
    with pytest.raises(TrainingStoppedError, match="5 steps in a row"):
        train_autocap(settings(batch_size=1), [f"{folder / 'nan.csv'}"], tmp_path / "run", init="demo", say=said.append)
    assert sum("left out, as it cannot be read: nan.wav: holds NaN" in text for text in said) == 1
    assert sum("no clip could be read" in text for text in said) == 5


def test_a_loss_that_is_not_finite_names_its_clips(data: str) -> None:
    model = AutoCap.from_pretrained(AutoCap.DEMO)
    task = task_of(model, data, STAGES[1], mix_p=0)
    plain = task.batch
    loud = {"siren.wav"}

    def batch(positions: range) -> Any:
        made: Any = plain(positions)
        for row, name in enumerate(made.names):
            if name in loud:
                made.audio[row] = float("inf")
        return made

    task.batch = batch  # type: ignore[method-assign]
    said: list[str] = []
    before = tensors(model)
    trainer = Trainer(task, loop(micro_batch_size=1, max_bad_steps=2), say=said.append)
    with pytest.raises(TrainingStoppedError, match="2 steps in a row"):
        trainer.run(lambda line: None)
    assert all(text.endswith("not finite; clips: siren.wav") for text in said) and len(said) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_a_run_cannot_begin_with_is_said(data: str, tmp_path: Path) -> None:
    def refused(message: str, error: type[Exception] = RunError, **changes: Any) -> None:
        with pytest.raises(error, match=message):
            usual: dict[str, Any] = {"data": [data], "out": tmp_path / "run", "init": "demo"}
            train_autocap(settings(), **(usual | changes))

    refused("--init is missing", init="")
    refused("no such folder", init=str(tmp_path / "gone"))
    refused("holds no checkpoint to resume", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_refuses_other_data_and_other_weights(data: str, tmp_path: Path) -> None:
    def run(**changes: Any) -> None:
        usual: dict[str, Any] = {"data": [data], "out": tmp_path, "init": "demo", "say": lambda text: None}
        train_autocap(settings(), **(usual | changes))

    run()
    with pytest.raises(checkpoint.OtherRunError, match=r"data\.0\.sha256"):
        folder = Path(data).parent
        (tmp_path / "less.csv").write_text(
            "file_name,caption\nrain.wav,Rain\nsiren.wav,A siren\ndog.wav,A\nclock.wav,B\n"
        )
        run(data=[f"{tmp_path / 'less.csv'}@{folder}"], resume=True)
    with pytest.raises(checkpoint.OtherRunError, match="init"):
        run(init=str(tmp_path / "model"), resume=True)
    with pytest.raises(DataError, match="began with 1 sets of data, now there are 2"):
        run(data=[data, data], resume=True)


def test_an_example_of_another_length_is_named() -> None:
    task = AutoCapTask(
        small(),
        lambda position: Example(name="long.wav", load=lambda: (np.zeros(32_000 * 11), 32_000), caption=""),
        AutoCapTaskConfig(),
    )
    batch = task.batch(range(1))
    assert batch.names == () and batch.unreadable[0].startswith("long.wav: lasts 11.00 s")
