"""`autorecap train autocap`, as people type it.

Forecasts of command lines prove training/forecast/run_forecast.py.
"""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner, Result

from autorecap.cli.train import train
from autorecap.training.autocap.recipe import AutoCapTraining
from tests.support.places import PROJECT

CONFIGS = PROJECT / "configs"


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000), 16_000)
        (tmp_path / f"{name}.csv").write_text(f"file_name,caption\n{name}.wav,Some noise\n")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(train, ["autocap", *map(str, arguments)])


def test_help_shows_examples_and_exit_codes() -> None:
    text = CliRunner().invoke(train, ["autocap", "--help"]).output
    assert "--config autocap-stage1" in text and "130 interrupted" in text and "LIST@FOLDER" in text


def test_a_small_run_trains_saves_and_says_how_it_ended(sounds: Path) -> None:
    few = ["--set", "loop.steps=2", "--set", "loop.batch_size=2", "--set", "loop.micro_batch_size=0", "--json"]
    config = CONFIGS / "autocap-stage1.yaml"
    done = run(
        "--config",
        config,
        "--init",
        "demo",
        "--out",
        f"file://{sounds}/run",  # which is a folder like any other
        *few,
        "--data",
        sounds / "a.csv",
        sounds / "b.csv",
    )
    assert done.exit_code == 0, done.output
    ended = json.loads(done.stdout)  # the result alone; progress goes to standard error
    assert ended["step"] == 2 and ended["model"] == str(sounds / "run" / "model") and ended["loss"] > 0
    assert "autorecap: 2 clips to learn from" in done.stderr
    told = json.loads((sounds / "run" / "settings.json").read_text())
    assert told["config"]["loop"]["lr"] == 1e-4 and told["settings"]["loop.steps"] == 2
    again = run("--config", config, "--init", "demo", "--out", sounds / "run", *few, "--data", sounds / "a.csv")
    assert again.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "x"], 2, "no data: name a dataset, or LIST@FOLDER"),
        (["--out", "x", "--data", "nowhere.csv"], 2, "nowhere.csv does not exist"),
        (
            ["--out", "x", "--data", "nowhere"],
            2,
            "nowhere does not exist: name a directory that a build wrote",
        ),
        (["--out", "x", "--data", "."], 2, ". holds no dataset: name a directory"),
        (["--out", "x", "--data", "a.csv", "--set", "loop.lrr=1"], 2, "did you mean loop.lr?"),
        (["--out", "x", "--data", "a.csv", "--set", "loop.lr=fast"], 2, "loop.lr: expected a number"),
        (["--out", "x", "--data", "a.csv", "--set", "task.frozen=[all]"], 2, "expected encoders, bart or"),
        (["--out", "x", "--data", "a.csv", "--config", "gone.yaml"], 2, "gone.yaml does not exist"),
        (["--out", "x", "--data", "a.csv"], 2, "--init is missing"),
        (["--out", "x", "--data", "a.csv", "--init", "demo", "--resume"], 2, "holds no checkpoint to resume"),
        (
            ["--out", "x", "--data", "a.csv", "--init", "demo", "--device", "cuda:1"],
            2,
            "--device cuda:1: write cpu, cuda or auto",
        ),
        pytest.param(
            ["--out", "x", "--data", "a.csv", "--init", "demo", "--device", "cuda"],
            2,
            "there is no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_is_wrong_is_said(
    sounds: Path,
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sounds)
    ended = run(*arguments)
    assert message in ended.output
    assert ended.exit_code == code


def test_the_stages_of_the_paper_freeze_what_they_should() -> None:
    from autorecap.base import settings_files as settings

    stages = [settings.load(AutoCapTraining, CONFIGS / f"autocap-stage{number}.yaml") for number in (1, 2)]
    assert [stage.task.frozen for stage in stages] == [("encoders", "bart"), ("encoders", "embeddings")]
    assert [stage.loop.lr for stage in stages] == [1e-4, 1e-5]
    for stage in stages:
        assert (stage.loop.optimizer, stage.loop.weight_decay, stage.loop.max_grad_norm) == ("adam", 1e-6, 2.0)
        assert (stage.loop.epochs, stage.loop.warmup_epochs, stage.task.label_smoothing) == (20, 2, 0.1)


def test_settings_are_printed_as_a_file_to_start_from() -> None:
    shown = run("--out", "x", "--show-config", "--config", CONFIGS / "autocap-stage2.yaml").output
    assert yaml.safe_load(shown)["task"]["frozen"] == ["encoders", "embeddings"]
    assert "# L2" not in shown and "# Parts that are not trained" in shown


def test_the_script_for_clusters_trains_genau_or_the_model_that_is_named_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--forecast` names the model, and takes eight workers, the script's upper bound, unless --workers says else."""
    script = PROJECT / "train_genau.py"
    steps = ["--forecast", "--set", "loop.steps=1", "--set", "loop.batch_size=8", "--init", "demo"]
    for words, said in ((["--workers", "3"], "GenAu demo: .* 3 x H100"), (["autocap"], "AutoCap demo: .* 8 x H100")):
        monkeypatch.setattr(sys, "argv", [str(script), *words, *steps])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        printed = capsys.readouterr().out
        assert ended.value.code == 0 and re.search(said, printed), printed


def test_plan_is_another_name_for_forecast_and_is_not_advertised() -> None:
    options = ("--init", "demo", "--set", "loop.steps=1", "--set", "loop.batch_size=8")
    forecast, plan = (run(name, *options).output for name in ("--forecast", "--plan"))
    assert forecast == plan and forecast.startswith("AutoCap demo: ")
    assert "--plan" not in run("--help").output


def test_a_number_of_workers_that_means_nothing_is_refused() -> None:
    for workers in ("0", "8:2", "many"):
        done = run("--init", "demo", "--out", "nowhere", "--workers", workers)
        assert done.exit_code == 2 and f"--workers {workers}: write a number" in done.output


def test_a_device_that_workers_do_not_take_is_refused_before_ray_starts() -> None:
    done = run("--init", "demo", "--out", "nowhere", "--workers", "2", "--device", "cuda:1")
    assert done.exit_code == 2 and "--device cuda:1: write cpu, cuda or auto" in done.output
