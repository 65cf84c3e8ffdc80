"""`autorecap config`: prints the settings of a build, each with its meaning and its allowed values."""

from typing import Annotated

import typer

from autorecap.cli.errors import answered

ConfigFile = Annotated[str | None, typer.Option("--config", help="A YAML file of settings; see `autorecap config`.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="section.field=value on top of the file. May be given again.")
]


def config(config: ConfigFile = None, set_: Overrides = None) -> None:
    """Print all settings of a build as YAML, with their meanings and allowed values: a file to start from.

    Examples:

      autorecap config > mine.yaml

      autorecap config --config mine.yaml --set captions.num_beams=3
    """
    with answered():
        from autorecap.base.settings_files import to_yaml
        from autorecap.pipeline.build.config import load_config

        print(to_yaml(load_config(config, set_ or [])), end="")
