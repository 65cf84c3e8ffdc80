"""`autorecap generate`: its files, its exit codes and its messages."""

import json
import resource
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from autorecap.cli.generate import MANIFEST, generate
from autorecap.models.autocap import AutoCap
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.models.genau.model import GenAu
from tests.support.tiny_genau import TINY, built

FAST = "--seconds", "0.5", "--steps", "2"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("genau")
    built(TINY).save_pretrained(folder)
    return folder


@pytest.fixture
def run(model, tmp_path):
    app = typer.Typer()
    app.command()(generate)

    def invoke(*args, input=None):  # noqa: A002
        return CliRunner().invoke(
            app, ["--model", str(model), "--out", str(tmp_path / "wavs"), *FAST, *args], input=input
        )

    return invoke


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


def samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_each_prompt_gives_so_many_files_of_the_exact_length_and_a_line_each(run, model, tmp_path):
    result = run("Dogs bark in the rain!", "wind", "--num", "2", "--seconds", "0.7", "--seed", "5")
    assert result.exit_code == 0, result.stderr
    names = [f"{slug}-{i:04d}.wav" for i, slug in enumerate(["dogs-bark-in-the-rain"] * 2 + ["wind"] * 2)]
    out = tmp_path / "wavs"
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, MANIFEST])
    sounds = [samples(out / name) for name in names]
    assert {len(sound) for sound in sounds} == {11_200}
    assert {int(np.abs(sound).max()) for sound in sounds} == {round(0.8 * 32_767)}
    assert not np.array_equal(sounds[0], sounds[1])
    lines = manifest(out)
    assert [line["file"] for line in lines] == names and [line["take"] for line in lines] == [0, 1, 0, 1]
    assert lines[0]["prompt"] == "Dogs bark in the rain!" and lines[0]["model"] == str(model)
    assert (lines[0]["seed"], lines[0]["seconds"], lines[0]["num_steps"], lines[0]["precision"]) == (
        5,
        0.7,
        2,
        "fp32",
    )
    assert str(out / names[0]) in result.stdout and "4 sounds of 0.7 s" in result.stderr


def test_a_line_of_the_manifest_makes_the_same_sound_again(run, tmp_path):
    assert run("rain", "rain", "wind").exit_code == 0
    first = samples(tmp_path / "wavs" / "wind-0002.wav")
    assert run("wind").exit_code == 0
    assert np.abs(samples(tmp_path / "wavs" / "wind-0000.wav").astype(int) - first).max() <= 2


def test_prompts_come_from_a_file_or_standard_input_too(run, tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffrain\r\n\r\n  wind \n".encode())
    result = run("a bell", "--file", str(tmp_path / "prompts.txt"), "--json")
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["prompt"] for line in result.stdout.splitlines()] == ["a bell", "rain", "wind"]
    assert run("--file", "-", "--force", input="雨\n").exit_code == 0
    assert (tmp_path / "wavs" / "sound-0000.wav").exists()


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("../../etc/passwd", "etc-passwd-0000.wav"),
        ("/", "sound-0000.wav"),
        ("", "sound-0000.wav"),
        ("a\x00b\nc\x1b[31m", "a-b-c-31m-0000.wav"),
        ("Café Größe", "cafe-groe-0000.wav"),
        ("rain " * 100, "rain" + "-rain" * 11 + "-0000.wav"),
        ("\udcff rain", "rain-0000.wav"),
        ("CON", "con-0000.wav"),
    ],
)
def test_whatever_a_prompt_holds_its_file_has_a_safe_name(run, tmp_path, prompt, name):
    result = run(prompt, "--steps", "1")
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "wavs").iterdir()) == sorted([name, MANIFEST])
    assert [p.name for p in tmp_path.iterdir()] == ["wavs"]
    assert "\x1b" not in result.output
    assert manifest(tmp_path / "wavs")[0]["prompt"] == prompt


def test_files_are_not_replaced_unless_asked(run, tmp_path):
    assert run("rain", "wind").exit_code == 0
    before = samples(tmp_path / "wavs" / "rain-0000.wav")
    refused = run("rain", "--seed", "1")
    assert refused.exit_code == 2 and "rain-0000.wav exists: name another --out, or replace" in refused.stderr
    assert np.array_equal(samples(tmp_path / "wavs" / "rain-0000.wav"), before)
    assert run("rain", "--seed", "1", "--force").exit_code == 0
    assert not np.array_equal(samples(tmp_path / "wavs" / "rain-0000.wav"), before)
    lines = manifest(tmp_path / "wavs")
    assert [(line["file"], line["seed"]) for line in lines] == [("wind-0001.wav", 0), ("rain-0000.wav", 1)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rain", "--steps", "0"], "--steps is 0: write a whole number from 1 to 1000"),
        (["rain", "--guidance", "-1"], "--guidance is -1.0"),
        (["rain", "--seconds", "0"], "a duration of 0.0 s: write a number of seconds above 0"),
        (["rain", "--seconds", "60"], "60 s, but this model makes sounds of up to 3.84 s"),
        (["rain", "--candidates", "3"], "--candidates 3: there is no --clap to choose among them"),
        (["rain", "--dataset", "imagenet"], "dataset 'imagenet' is not one of the model's"),
        (["rain", "--sampler", "euler"], "sampler is 'euler': choose one of ddim"),
        (["rain", "--device", "abacus"], "--device abacus: write cpu"),
        (["rain", "--precision", "fp8"], "--precision fp8: write fp32, bf16 or auto"),
        (["rain", "--model", "nowhere"], "nowhere: no such folder"),
        (["rain", "--file", "nowhere.txt"], "nowhere.txt: No such file"),
        (["rain", "--clap", "nowhere"], "nowhere: no such folder"),
        ([], "no prompts: write one"),
    ],
)
def test_bad_usage_ends_with_2_says_what_to_write_and_makes_nothing(run, tmp_path, args, message):
    result = run(*args)
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.output
    assert not (tmp_path / "wavs").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "prompts.txt is no text: it holds a NUL byte"),
        ("Größe".encode("latin-1"), "prompts.txt is no text in UTF-8: line 1"),
        (b"\n  \n", "prompts.txt holds no prompt"),
    ],
)
def test_a_file_that_holds_no_prompts_is_bad_usage(run, tmp_path, data, message):
    (tmp_path / "prompts.txt").write_bytes(data)
    result = run("--file", str(tmp_path / "prompts.txt"))
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "wavs").exists()


def test_a_gpu_that_is_not_there_is_bad_usage(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("rain", "--device", "cuda")
    assert result.exit_code == 2 and "there is no GPU here" in result.stderr


def test_a_long_prompt_is_read_as_far_as_it_goes_and_said_once(run):
    result = run("rain on a roof. " * 700, "--num", "2")
    assert result.exit_code == 0
    assert result.stderr.count("is not read to its end: T5 reads 128 tokens") == 1
    assert len(result.stderr) < 500


@pytest.mark.parametrize(
    ("end", "code", "message"),
    [
        (ValueError("NaN"), 1, "prompt 2: NaN"),
        (torch.OutOfMemoryError("16 GiB"), 1, "choose a smaller --batch-size"),
        (OSError(28, "No space left on device", "wavs/c.wav"), 1, "wavs/c.wav: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_when_it_ends_early_the_sounds_before_stand(run, tmp_path, monkeypatch, end, code, message):
    decode, calls = GenAu.decode, []

    def third_fails(self, latent_CT):
        calls.append(1)
        if len(calls) == 3:
            raise end
        return decode(self, latent_CT)

    monkeypatch.setattr(GenAu, "decode", third_fails)
    result = run("a", "b", "c", "--batch-size", "1")
    assert result.exit_code == code
    assert message in result.stderr and "2 of 3 sounds are in" in result.stderr
    assert sorted(p.name for p in (tmp_path / "wavs").iterdir()) == ["a-0000.wav", "b-0001.wav", MANIFEST]
    assert len(manifest(tmp_path / "wavs")) == 2


def test_a_disk_that_is_full_leaves_no_half_a_file(run, tmp_path):
    (tmp_path / "wavs").mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    try:
        result = run("rain")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert result.exit_code == 1
    assert "File too large; 0 of 1 sounds are in" in result.stderr and "wavs" in result.stderr
    assert not any((tmp_path / "wavs").glob("rain*"))


def test_what_is_wrong_with_a_sound_is_said_in_the_words_of_the_command(run):
    result = run("rain", "--guidance", "1e30")
    assert result.exit_code == 1 and "or less guidance; 0 of 1 sounds" in result.stderr


def test_clap_chooses_among_candidates_and_its_score_is_kept(run, tmp_path):
    captioner = AutoCap.from_pretrained(AutoCap.DEMO)
    captioner.save_pretrained(tmp_path / "captioner")
    torch.manual_seed(0)
    ClapText(TEXT_SIZES["demo"], captioner.tokenizer).save_pretrained(tmp_path / "captioner" / "clap_text")
    result = run("rain", "--candidates", "3", "--clap", str(tmp_path / "captioner"), "--json")
    assert result.exit_code == 0, result.stderr
    line = json.loads(result.stdout)
    assert line["num_candidates"] == 3 and -1 <= line["clap_score"] <= 1
    assert line["clap"] == str(tmp_path / "captioner")
    one = run("rain", "--num", "3", "--clap", str(tmp_path / "captioner"), "--json", "--out", str(tmp_path / "three"))
    best = max(json.loads(line)["clap_score"] for line in one.stdout.splitlines())
    assert line["clap_score"] == pytest.approx(best, abs=1e-3)


def test_the_bundled_captioner_scores_sounds_as_well(run):
    result = run("rain", "--clap", "demo", "--json")
    assert result.exit_code == 0, result.stderr
    assert -1 <= json.loads(result.stdout)["clap_score"] <= 1


def test_importing_the_command_loads_no_model():
    code = "import sys, autorecap.cli.generate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
