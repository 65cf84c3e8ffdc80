"""`autorecap caption`: every file is answered, whatever it is, and hours take no memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner

from autorecap.cli.caption import caption
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap import SIZES, AutoCap
from autorecap.models.files import WEIGHTS, read_weights, write_tensors
from autorecap.pipeline.caption_files import Unread, caption_files, windows
from autorecap.stages.captions import CaptionsConfig
from autorecap.stages.media_files.ffmpeg import MediaError, ffmpeg_exe
from autorecap.stages.media_files.stream import stream
from autorecap.stages.records import Video

app = typer.Typer()
app.command()(caption)

RATE = 32_000
COMMAND = [sys.executable, "-c", "import typer; from autorecap.cli.caption import caption as f; typer.run(f)"]


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answers(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def make(path: Path, *options: str, seconds: float = 3, source: str = "anoisesrc=c=pink:r=8000") -> Path:
    """A file of noise, by ffmpeg's own generator."""
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-t", str(seconds), "-i", source, *options]
    subprocess.run([*command, f"file:{path}"], check=True)
    return path


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


class Recorder:
    """Takes what the captions stage takes, and notes it."""

    def __init__(self, batch_clips: int) -> None:
        self.config = CaptionsConfig(batch_clips=batch_clips)
        self.model = SimpleNamespace(config=SIZES["demo"])
        self.batches: list[list[Video]] = []

    def __call__(self, videos):
        self.batches.append(videos)
        return [
            replace(video, clips=tuple(replace(clip, caption=video.title) for clip in video.clips)) for video in videos
        ]


def test_batches_span_files_hold_no_more_than_asked_and_carry_the_title(tmp_path):
    files = [str(make(tmp_path / "a.wav", seconds=32)), str(make(tmp_path / "b.wav", seconds=5)), "none.wav"]
    told: list[tuple[float, str]] = []
    recorder: Any = Recorder(batch_clips=3)
    found = list(caption_files(files, recorder, "A harbour", lambda *at: told.append(at)))
    assert [[(video.media, len(video.clips)) for video in batch] for batch in recorder.batches] == [
        [(files[0], 3)],
        [(files[0], 1), (files[1], 1)],
    ]
    assert [answer.caption for answer in found[:-1]] == ["A harbour"] * 5
    assert found[-1] == Unread(file="none.wav", error="No such file or directory")
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 3 and shares[0] == pytest.approx(10 / 32, abs=0.01)


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


# --- windows and streams


def cut(*lengths: int, shortest: int = 10) -> list[tuple[int, int]]:
    pieces = [bytes(2 * length) for length in lengths]
    return [(first, len(pcm) // 2) for first, pcm in windows(pieces, shortest)]


def test_a_short_rest_shares_with_the_window_before_it():
    assert cut(100, 100) == [(0, 100), (100, 100)]
    assert cut(100, 100, 11) == [(0, 100), (100, 100), (200, 11)]
    assert cut(100, 100, 10) == [(0, 100), (100, 55), (155, 55)]
    assert cut(100, 1) == [(0, 50), (50, 51)]
    assert cut(3) == [(0, 3)]
    assert cut() == []


def test_windows_hold_every_sample_once():
    rng = np.random.default_rng(0)
    for last in (0, 1, 2, 9, 10, 11, 99):
        audio = rng.integers(-9, 9, 300 + last, dtype=np.int16).tobytes()
        found = list(windows([audio[i : i + 200] for i in range(0, len(audio), 200)], 10))
        assert b"".join(pcm for _, pcm in found) == audio
        assert [first for first, _ in found] == [sum(len(p) // 2 for _, p in found[:i]) for i in range(len(found))]


def test_what_came_before_the_damage_is_given_before_the_error():
    def broken():
        yield bytes(200)
        yield bytes(200)
        raise MediaError("cut")

    found = []
    with pytest.raises(MediaError):
        for window in windows(broken(), 10):
            found.append(window)
    assert [first for first, _ in found] == [0, 100]


def test_a_stream_is_the_samples_of_the_file_whatever_the_pieces(tmp_path):
    path = make(tmp_path / "a.wav", "-ar", "32000", seconds=5)
    whole = b"".join(stream(str(path), RATE, 10**9, 5000, 20))
    pieces = list(stream(str(path), RATE, 33_333, 5000, 20))
    assert b"".join(pieces) == whole and len(whole) == 2 * 5 * RATE
    assert {len(piece) for piece in pieces[:-1]} == {66_666}


def test_a_stream_that_nobody_reads_on_ends_its_ffmpeg(tmp_path):
    before = threading.active_count()
    pieces: Any = stream(str(make(tmp_path / "a.flac", seconds=600)), RATE, RATE, None, 20)
    next(pieces)
    pieces.close()
    assert threading.active_count() == before


@pytest.mark.slow
def test_three_hours_take_the_memory_of_seconds(tmp_path):
    def peak_mb(path: Path) -> float:
        code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
        done = subprocess.run([sys.executable, "-c", code, *COMMAND, path], capture_output=True, text=True, check=True)
        return float(done.stdout)

    hours = make(tmp_path / "hours.flac", seconds=10_800, source="anullsrc=r=16000:cl=mono")
    assert peak_mb(hours) < peak_mb(make(tmp_path / "a.wav", seconds=5)) + 100
