"""`autorecap filter`: one answer for each line, whatever the bytes are.

What it prints goes through cli/show.py.
"""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from autorecap.cli.filter import filter_captions

app = typer.Typer()
app.command()(filter_captions)

COMMAND = [sys.executable, "-c", "import typer; from autorecap.cli.filter import filter_captions as f; typer.run(f)"]


def run(*args, stdin=b""):
    return CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)


def answers(result):
    return [json.loads(line) for line in result.stdout.split("\n")[:-1]]


def test_every_line_is_answered_in_json():
    result = run("--json", stdin=b"A man speaks\nRain falls\n")
    assert result.exit_code == 0
    assert answers(result) == [
        {"caption": "A man speaks", "keep": False, "keyword": "speaks"},
        {"caption": "Rain falls", "keep": True, "keyword": None},
    ]


def test_people_get_a_readable_form_and_a_summary_on_stderr(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("A man speaks\nRain falls\nA woman speaks\n")
    result = run(path)
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["drop", "speaks"],
        ["keep", "Rain"],
        ["drop", "speaks"],
    ]
    assert result.stderr == "3 captions: 1 kept, 2 dropped (speaks 2)\n"


@pytest.mark.parametrize(
    ("stdin", "captions"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"Rain\n\nWind\n", ["Rain", "", "Wind"]),
        (b"Rain\r\nWind\r\n", ["Rain", "Wind"]),
        (b"Rain\nWind", ["Rain", "Wind"]),
        ("Rain\u2028here\x0band\x85there\n".encode(), ["Rain\u2028here\x0band\x85there"]),
        (b"\xef\xbb\xbfRain\n", ["Rain"]),
        ("Möwen – ein Vogel\n".encode(), ["Möwen – ein Vogel"]),
    ],
)
def test_one_line_in_is_one_line_out(stdin, captions):
    assert [answer["caption"] for answer in answers(run("--json", stdin=stdin))] == captions


def test_an_empty_line_is_dropped():
    assert answers(run("--json", stdin=b"\n")) == [{"caption": "", "keep": False, "keyword": "(empty caption)"}]


def test_undecodable_bytes_are_replaced_and_counted():
    result = run("--json", stdin="real \ufffd one\n".encode() + b"Rain \xff\xfe falls\nA man speaks \xc3\n")
    assert [answer["keep"] for answer in answers(result)] == [True, True, False]
    assert "3 undecodable" in result.stderr


def test_control_characters_do_not_reach_the_terminal():
    assert "\x1b" not in run(stdin=b"Rain \x1b[2J falls\n").stdout


def test_a_line_longer_than_a_chunk_stays_one_line():
    result = run("--json", stdin=b"rain " * 50_000 + b"\nWind\n")
    assert [len(answer["caption"]) for answer in answers(result)] == [250_000, 4]


def test_a_keyword_file_of_the_user_replaces_the_bundled_one(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("keywords: {weather: [rain]}")
    result = run("--json", "--keywords", path, stdin=b"Rain falls\nA man speaks\n")
    assert [answer["keyword"] for answer in answers(result)] == ["rain", None]


@pytest.mark.parametrize("args", [["absent.txt"], ["."], ["--keywords", "absent.yaml"]])
def test_a_file_that_cannot_be_read_is_refused_with_its_name(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2
    assert args[-1] in result.stderr
    assert not result.stdout


def test_a_writer_that_waits_for_the_answer_gets_it():
    with subprocess.Popen(
        [*COMMAND, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        for caption, keep in (("A man speaks", False), ("Rain falls", True)):
            p.stdin.write(caption.encode() + b"\n")
            p.stdin.flush()
            assert json.loads(p.stdout.readline())["keep"] is keep
        p.stdin.close()
        assert p.wait(timeout=30) == 0


def test_a_closed_pipe_ends_the_command_quietly(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("Rain falls on a tin roof\n" * 20_000)
    with subprocess.Popen([*COMMAND, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
        p.stdout.readline()
        p.stdout.close()
        errors = p.stderr.read().decode()
        assert p.wait(timeout=60) == 0
    assert "Traceback" not in errors
    assert "Broken" not in errors
