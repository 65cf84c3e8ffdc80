"""Progress: now and then a line in a log, one place on a terminal."""

import os
import pty
import subprocess
import sys

import pytest

from autorecap.base import progress
from autorecap.base.progress import Progress


def test_a_log_gets_the_first_line_at_once_where_it_is_wanted_and_none_too_soon(capsys) -> None:
    with Progress("3 files") as quiet, Progress(log_at_once=True) as eager:
        for number in range(3):
            quiet(number, 3, "a.wav")
            eager.line(f"{number} rows read")
    assert capsys.readouterr().err == "autorecap: 0 rows read\n"


def test_a_log_says_what_is_done_of_what_and_what_is_at_work_without_control_characters(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with Progress("3 files") as shown:
        shown(1, 3, "a\x1b[31m.wav")
        shown(1, 3, "a\x1b[31m.wav")  # nothing has moved
        shown(2, 3)
    assert capsys.readouterr().err == "autorecap: 33.3% of 3 files, now a [31m.wav\nautorecap: 66.7% of 3 files\n"


ON_A_TERMINAL = """
from autorecap.base.progress import Progress, say
with Progress("3 files") as shown:
    shown(1, 3, "a.wav")
    say("a line between")
    print("a result", flush=True)
    shown(3, 3, "c.wav")
with Progress() as shown:
    shown.line("12 rows read [bold]")
"""


@pytest.mark.parametrize("results_too", [True, False])
def test_on_a_terminal_lines_and_results_stand_whole_beside_the_bar(results_too: bool) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL],
        stdout=theirs if results_too else subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65_536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    elsewhere = child.communicate()[0] or b""
    assert child.returncode == 0
    assert b"autorecap: a line between\r\n" in shown and b"12 rows read [bold]" in shown and b"100%" in shown
    assert (b"a result\r\n" in shown) == results_too and (elsewhere == b"a result\n") == (not results_too)
