"""`autorecap caption`: every file is answered, whatever it is, and hours take no memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from autorecap.cli.caption import caption
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap import AutoCap
from autorecap.models.files import WEIGHTS, read_weights, write_tensors
from tests.support.sound_files import make

app = typer.Typer()
app.command()(caption)

RATE = 32_000
COMMAND = [sys.executable, "-c", "import typer; from autorecap.cli.caption import caption as f; typer.run(f)"]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answers(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    """24.5 s: rain, nothing at all, a dog."""
    rng = np.random.default_rng(0)
    assert SAMPLE_RATE_HZ == RATE
    rain, dog = synthesise("rain", 10, rng), synthesise("dog", 4.5, rng)
    path = tmp_path_factory.mktemp("long") / "long.flac"
    soundfile.write(path, np.concatenate([rain, np.zeros(10 * RATE), dog]), RATE)
    return path


def test_long_audio_is_captioned_in_windows_with_their_times_and_silence_without_the_model(long):
    result = run(long, "--json")
    assert result.exit_code == 0
    rain, nothing, dog = answers(result)
    assert [(a["start_ms"], a["end_ms"]) for a in (rain, nothing, dog)] == [
        (0, 10_000),
        (10_000, 20_000),
        (20_000, 24_500),
    ]
    assert (nothing["silent"], nothing["caption"], nothing["rms_dbfs"]) == (True, "", -120.0)
    assert not rain["silent"] and not dog["silent"]
    assert "rain" in rain["caption"].lower() and "dog" in dog["caption"].lower()


def test_people_get_a_line_for_each_window(long):
    result = run(long)
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert lines[1] == f"{long}  0:00:10.0 - 0:00:20.0  (silent)"
    assert lines[0].startswith(f"{long}  0:00:00.0 - 0:00:10.0  ")


def test_files_of_every_kind_are_answered_in_order_and_bad_ones_named(tmp_path):
    good = [
        make(tmp_path / "mono-8k.wav"),
        make(tmp_path / "seven.wav", "-af", "pan=7c|c0=c0|c3=c0|c6=c0"),
        make(tmp_path / "ünï ☃ '$(x)'.flac"),
        make(tmp_path / "picture.mp4", "-f", "lavfi", "-i", "testsrc=d=3:s=64x64:r=5", "-shortest"),
    ]
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "page.mp3").write_text("<html>not here</html>")
    (tmp_path / "folder").mkdir()
    make(tmp_path / "mute.mp4", source="testsrc=s=64x64:r=5")
    make(tmp_path / "blink.wav", seconds=0.05)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "inf.wav", np.full((RATE, 2), np.inf), 44_100, subtype="FLOAT")
    bad = {
        "empty.wav": "the file is empty",
        "page.mp3": "ffmpeg: ",
        "folder": "Is a directory",
        "mute.mp4": "no audio stream",
        "none.wav": "No such file",
        "blink.wav": "only 50 ms of audio",
        "nothing.wav": "nothing could be decoded",
        "nan.wav": "NaN or infinite samples after 0.00 s",
        "inf.wav": "NaN or infinite samples after 0.00 s",
    }
    files = [good[0], *(tmp_path / name for name in bad), *good[1:]]
    result = run(*files, "--json")
    assert result.exit_code == 1
    found = answers(result)
    assert [answer["file"] for answer in found] == [str(file) for file in files]
    for answer, file in zip(found, files, strict=True):
        if file in good:
            assert answer["caption"] and answer["start_ms"] == 0 and abs(answer["end_ms"] - 3000) <= 30
        else:
            assert bad[file.name] in answer["error"]
            assert f"{file}: {answer['error']}" in result.stderr
    assert "9 of 13 files" in result.stderr


def test_a_name_that_begins_with_a_dash_goes_after_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "-x.wav")
    assert [answer["file"] for answer in answers(run("--json", "--", "-x.wav"))] == ["-x.wav"]
    assert run("-x.wav").exit_code == 2


def test_a_name_that_is_no_text_is_read_and_shown(tmp_path):
    path = make(tmp_path / "plain.wav").rename(os.fsdecode(bytes(tmp_path) + b"/\xff\x1b.wav"))
    result = run(path)
    assert result.exit_code == 0
    assert ".wav  0:00:00.0 - 0:00:03.0  " in result.stdout and "\x1b" not in result.stdout
    assert answers(run(path, "--json"))[0]["file"] == str(path)


def test_a_file_that_is_cut_short_is_captioned_as_far_as_it_goes_and_named(tmp_path):
    whole = make(tmp_path / "whole.webm", "-c:a", "libopus", "-ar", "48000", seconds=25).read_bytes()
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole[: len(whole) // 2])
    result = run(cut, "--json")
    *heard, error = answers(result)
    assert result.exit_code == 1
    assert [(answer["start_ms"], bool(answer["caption"])) for answer in heard] == [(0, True), (10_000, True)]
    assert error["error"] == f"no audio after {heard[-1]['end_ms'] / 1000:.2f} s: the file is damaged or cut short"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nowhere"], "no such folder"),
        (["--num-beams", "0"], "--num-beams"),
        (["--device", "cuda:1"], "--device cuda:1: write cpu, cuda or auto"),
        ([], "Missing argument"),
    ],
)
def test_bad_usage_is_refused_before_any_file_is_read(options, said):
    result = run(*options, *(["a.wav"] if options else []))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "a.wav" not in result.stdout


def test_a_model_with_nan_is_refused_by_name(tmp_path):
    folder = shutil.copytree(AutoCap.DEMO, tmp_path / "model")
    weights = read_weights(folder / WEIGHTS)
    write_tensors(folder / WEIGHTS, weights | {"clap_in.bias": torch.full_like(weights["clap_in.bias"], torch.nan)})
    result = run("--model", str(folder), "a.wav")
    assert result.exit_code == 2
    assert "the tensor clap_in.bias holds NaN" in result.stderr and "Traceback" not in result.output


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    files = [make(tmp_path / "a.wav")] * 20
    done = subprocess.run(
        ["/bin/sh", "-c", '"$@" | head -n 1; exit 0', "sh", *COMMAND, *map(str, files)], capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_an_interrupt_ends_with_130(tmp_path):
    path = make(tmp_path / "a.flac", seconds=1500)
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
    command = subprocess.Popen([*COMMAND, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heeded)
    assert command.stdout is not None
    command.stdout.readline()
    command.send_signal(signal.SIGINT)
    _, stderr = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "interrupted" in stderr and "Traceback" not in stderr


@pytest.mark.slow
def test_three_hours_take_the_memory_of_seconds(tmp_path):
    def peak_mb(path: Path) -> float:
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
        done = subprocess.run([sys.executable, "-c", code, *COMMAND, path], capture_output=True, text=True, check=True)
        return float(done.stdout)

    hours = make(tmp_path / "hours.flac", seconds=10_800, source="anullsrc=r=16000:cl=mono")
    assert peak_mb(hours) < peak_mb(make(tmp_path / "a.wav", seconds=5)) + 100
