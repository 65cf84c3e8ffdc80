"""`autorecap segment`: its output, its exit codes and its messages."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from autorecap.cli.segment import segment

SNIPPETS = '[{"text": "a", "start": 5, "duration": 3}, {"text": "b", "start": 20, "duration": 2}]'


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.command()(segment)

    def invoke(text, *options, name="v.en.json"):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        return CliRunner().invoke(app, [str(path), *options])

    return invoke


def test_json_has_the_gaps_and_clips_in_milliseconds(run):
    result = run(SNIPPETS, "--duration", "30.5", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "status": "ok",
        "reason": "",
        "gaps_ms": [[0, 5000], [8000, 20_000], [22_000, 30_500]],
        "clips_ms": [[0, 5000], [8000, 18_000], [18_000, 20_000], [22_000, 30_500]],
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[{"text": "a", "start": 0, "duration": 9.5}]', "no_gap"),
        ("WEBVTT\n", "empty_transcript"),
        ('[{"text": "%s", "start": 0, "duration": 2}]' % ("word " * 90), "collapsed_transcript"),
        ('[{"text": "a", "start": 1700000000, "duration": 2}]', "mistimed_transcript"),
    ],
)
def test_a_verdict_on_a_readable_file_exits_with_0(run, text, reason):
    result = run(text, "--duration", "10", "--json")
    verdict = json.loads(result.output)
    assert result.exit_code == 0
    assert list(verdict) == ["status", "reason", "gaps_ms", "clips_ms", "detail"]
    assert (verdict["status"], verdict["reason"], verdict["gaps_ms"]) == ("rejected", reason, [])
    assert reason in run(text, "--duration", "10").output


def test_an_unreadable_file_exits_with_1_and_names_itself(run):
    result = run("<html>", "--json")
    verdict = json.loads(result.output)
    assert (result.exit_code, verdict["status"], verdict["reason"]) == (1, "failed", "transcript_unreadable")
    assert verdict["detail"].startswith("v.en.json: an HTML page")
    result = run("")
    assert result.exit_code == 1
    assert "v.en.json: an empty file" in result.stderr


@pytest.mark.parametrize("duration", ["-1", "0", "nan", "inf", "1e9", "ten", "", "1:2:3:4", "999999999"])
def test_a_duration_that_is_none_exits_with_2(run, duration):
    result = run(SNIPPETS, f"--duration={duration}")
    assert result.exit_code == 2
    assert "--duration" in result.stderr


def test_a_missing_file_exits_with_2(run):
    assert run(None).exit_code == 2


def test_a_duration_may_be_a_clock_time(run):
    gaps = json.loads(run(SNIPPETS, "--duration", "1:02:03.5", "--json").output)["gaps_ms"]
    assert gaps[-1] == [22_000, 3_723_500]


def test_the_table_lists_gaps_and_their_clips(run):
    lines = run(SNIPPETS, "--duration", "30").output.splitlines()
    assert [line.split()[0] for line in lines] == ["gap", "clip", "gap", "clip", "clip", "gap", "clip", "3"]
    assert lines[2].split() == ["gap", "0:00:08.000", "-", "0:00:20.000", "12.000", "s"]
    assert lines[-1] == "3 gaps, 25.000 s; 4 clips (api, 2 cues)"


def test_importing_the_command_loads_no_stage():
    code = "import sys, autorecap.cli.segment as s; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
