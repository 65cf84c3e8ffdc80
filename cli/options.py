"""Options that several commands take."""

from typing import Annotated

import typer

from autorecap.base.errors import ForeseenError

ConfigFile = Annotated[
    str | None,
    typer.Option("--config", help="A YAML file of settings (see `autorecap config`), or a bundled one by its name."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="section.field=value on top of the file. May be given again.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", help="A list, in any format, of videos to leave out, such as a test set. May be given again."
    ),
]
ClipTimes = Annotated[
    bool,
    typer.Option("--clip-times", help="Build the clips that the lists state, not the gaps of the transcripts."),
]
Released = Annotated[
    list[str] | None,
    typer.Option(
        "--from-released",
        help="A file of the released AutoReCap-XL, which holds times and captions. May be given again.",
    ),
]
MinClap = Annotated[float | None, typer.Option(min=-1, max=1, help="Leave out released clips with a lower CLAP score.")]
MinSeconds = Annotated[float | None, typer.Option(min=0, help="Leave out shorter released clips.")]


def built_kind(until: str | None) -> str:
    """Return the kind of dataset that `--until` leaves. Raises ForeseenError."""
    from autorecap.dataset.log import CLIPS, SEGMENTS

    if until not in (None, SEGMENTS):
        raise ForeseenError(f"--until: expected segments, found {until!r}")
    return until or CLIPS
