"""A folder as the world leaves it: every bad file ends with a clear reason, and every good one is built.

The command is cli/build.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autorecap.base.settings_files import CONFIGS
from autorecap.cli import app
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS, synthesise_corpus
from autorecap.demo.transcripts import Line, srv1, vtt
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.build.driver import Job, Outcome, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.stages.media_files.ffmpeg import ffmpeg_exe

GOOD = CORPUS[0]
TALK = [Line(12_000, 18_000, "words that somebody says in the middle of it")]


def make_folder(folder: Path) -> None:
    """One good video, and copies of it with something wrong."""
    synthesise_corpus(folder, [GOOD])
    media = (folder / f"{GOOD.name}.webm").read_bytes()

    def add(name: str, content: bytes = media, transcript: bytes = vtt(TALK).encode(), ending: str = "en.vtt") -> None:
        (folder / name).write_bytes(content)
        (folder / f"{Path(name).stem}.{ending}").write_bytes(transcript)

    add("truncated.webm", media[: len(media) // 2])
    add("zero.webm", b"")
    add("text.mp4", b"this is not a video\n" * 100)
    add("latin1.webm", transcript="caf\xe9 \xff\xfe".encode("latin-1") * 30)
    add("notxml.webm", transcript=b"<transcript><text start='0' dur='1'>half", ending="en.srv1")
    add("html.webm", transcript=b"<!doctype html><html><body>Sorry</body></html>", ending="en.srv3")
    add("my.video 0.webm")
    add("..x.webm")
    add("bell\x07\x1b[31mred\nline.webm")
    (folder / "long.webm").write_bytes(media)
    (folder / "long.en.srv1").write_text(srv1(TALK))
    (folder / "long.info.json").write_text(json.dumps({"duration": 6 * 3600, "title": "six hours, it says"}))
    (folder / "badinfo.webm").write_bytes(media)
    (folder / "badinfo.info.json").write_text('{"title": ["not", "text"], "duration": "soon"')
    (folder / "badinfo.en.vtt").write_text(vtt(TALK))
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=4"]
    subprocess.run([*command, folder / "mute.mp4"], check=True)


def without_ray(job: Job, settings: BuildConfig, address: str | None) -> Outcome:
    return run(job, LocalFlow(settings, job.store), lambda outcome, total: None)


def test_each_bad_file_gets_its_reason_and_the_others_are_built(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    make_folder(folder)
    monkeypatch.setattr(sys.modules["autorecap.cli.build"], "_run", without_ray)
    arguments = [
        "build",
        "--videos",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--config",
        str(CONFIGS / "demo.yaml"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.stderr  # 7 of 13 failed, and the default allows half
    assert "54% failed, more than max_failed_share=0.5" in done.stderr
    rows = DatasetView(str(tmp_path / "out")).rows("select * exclude (dropped, seconds) from videos")
    found = {row["original_name"]: row for row in rows}
    reasons = {
        "truncated": "truncated_media",
        "zero": "undecodable",
        "text": "undecodable",
        "latin1": "transcript_unreadable",
        "notxml": "transcript_unreadable",
        "html": "transcript_unreadable",
        "mute": "no_audio",
    }
    for name, reason in reasons.items():
        assert (found[name]["status"], found[name]["reason"]) == ("failed", reason), found[name]
        assert name in found[name]["detail"], "the message names the file"
    good = {GOOD.name, "my.video 0", "..x", "bell\x07\x1b[31mred\nline", "long", "badinfo"}
    for name in good:
        assert found[name]["status"] == "ok" and found[name]["num_kept"] > 0, found[name]
        assert abs(found[name]["duration_ms"] - 26_000) < 60  # what the file holds, not what info.json claims
    assert found.keys() == good | reasons.keys()
    assert not any("\x1b" in str(row["video_id"]) or "/" in row["video_id"] or "." in row["video_id"] for row in rows)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("captions.num_beam=3", "did you mean captions.num_beams?"),
        ("captions.model=/nowhere/at/all", "/nowhere/at/all"),
        ("keywords.file=/nowhere.yaml", "/nowhere.yaml"),
    ],
)
def test_bad_settings_are_refused_before_ray_is_asked(tmp_path, corpus, setting, message):
    arguments = ["build", "--videos", str(corpus), "--out", str(tmp_path / "out"), "--set", setting]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "out" / "commits").exists()


@pytest.mark.ray
def test_a_gpu_that_the_cluster_lacks_is_refused_before_any_work(tmp_path, build, corpus):
    done = build(corpus, tmp_path / "out", "--set", "pools.judge.gpus=1")
    assert done.returncode == 2, done.stderr
    assert "the cluster has 0" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "commits").exists()


def test_an_output_that_is_no_dataset_is_refused(tmp_path, corpus):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    done = CliRunner().invoke(app, ["build", "--videos", str(corpus), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "not empty and not a dataset" in done.stderr
    assert (tmp_path / "out" / "precious.txt").read_text() == "mine"
