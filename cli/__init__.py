"""The command line: `autorecap`. Each command is a thin shell over a function that Python can call as well.

Heavy libraries are imported inside the commands, so that `autorecap --help` and `autorecap filter` answer at once.
"""

import typer

from autorecap.cli.build import build
from autorecap.cli.caption import caption
from autorecap.cli.config import config
from autorecap.cli.convert import convert
from autorecap.cli.encode import encode
from autorecap.cli.filter import filter_captions
from autorecap.cli.generate import generate
from autorecap.cli.inspect import inspect
from autorecap.cli.plan import plan
from autorecap.cli.segment import segment
from autorecap.cli.train import train

app = typer.Typer(
    name="autorecap",
    help="Videos in, a captioned dataset of ambient sounds out, and the models that make and use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("plan")(plan)
app.command("build")(build)
app.command("inspect")(inspect)
app.command("segment")(segment)
app.command("filter")(filter_captions)
app.command("caption")(caption)
app.command("generate")(generate)
app.command("encode")(encode)
app.add_typer(train, name="train")
app.add_typer(convert, name="convert")
app.command("config")(config)


def main() -> None:
    app()
