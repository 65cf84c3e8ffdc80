"""The command line: `autorecap`. Each command is a thin shell over a function that Python can call as well.

Heavy libraries are imported inside the commands, so that `autorecap --help` and `autorecap filter` answer at once.
"""

import typer

from pipeline.cli.build import build
from pipeline.cli.config import config
from pipeline.cli.filter import filter_captions
from pipeline.cli.inspect import inspect
from pipeline.cli.segment import segment

app = typer.Typer(
    name="autorecap",
    help="From a folder of videos to a captioned dataset of ambient sounds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("build")(build)
app.command("inspect")(inspect)
app.command("segment")(segment)
app.command("filter")(filter_captions)
app.command("config")(config)


def main() -> None:
    app()
