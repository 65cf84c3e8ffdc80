"""`autorecap config`: prints the settings of a build, each with its meaning and its allowed values."""

from autorecap.cli.errors import answered
from autorecap.cli.options import ConfigFile, Overrides


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
