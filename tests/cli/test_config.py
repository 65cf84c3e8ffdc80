"""`autorecap config`: what it prints is a file of settings that a build takes.

Also proves cli/options.py.
"""

from pathlib import Path

from typer.testing import CliRunner

from autorecap.base.errors import BAD_USAGE
from autorecap.cli import app
from autorecap.pipeline.build.config import load_config


def test_what_is_printed_is_a_file_to_start_from(tmp_path: Path) -> None:
    override = "captions.num_beams=3"
    printed = CliRunner().invoke(app, ["config", "--set", override])
    assert printed.exit_code == 0
    (tmp_path / "mine.yaml").write_text(printed.stdout)
    assert load_config(tmp_path / "mine.yaml") == load_config(None, [override])
    assert CliRunner().invoke(app, ["config", "--config", str(tmp_path / "mine.yaml")]).stdout == printed.stdout


def test_a_setting_that_does_not_exist_is_named() -> None:
    refused = CliRunner().invoke(app, ["config", "--set", "captions.num_beam=3"])
    assert refused.exit_code == BAD_USAGE and "did you mean captions.num_beams?" in refused.stderr
