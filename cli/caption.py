"""`autorecap caption`: captions audio and video files with AutoCap."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from autorecap.base.device import choose_device
from autorecap.base.errors import DONE, FINISHED_WITH_FAILURES, INTERRUPTED
from autorecap.base.progress import Progress, say
from autorecap.cli.errors import answered, settings_from_options
from autorecap.cli.show import silence_stdout
from autorecap.models import DEMO

if TYPE_CHECKING:
    from autorecap.pipeline.caption_files import Unread, Window
    from autorecap.stages.captions import Captions


def caption(
    files: Annotated[list[str], typer.Argument(help="Audio or video files, local or as URLs.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            help="A folder or hub id of AutoCap, or demo: the bundled model, which knows 14 synthesised sounds."
        ),
    ] = DEMO,
    title: Annotated[
        str, typer.Option(help="Text about the files that helps the model, such as a video's title.")
    ] = "",
    num_beams: Annotated[int, typer.Option(help="Beams of the search for a caption.", min=1, max=32)] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is a GPU.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, also for errors.")] = False,
) -> None:
    """Caption the sounds of files, in windows of 10 s with their times.

    If only a second or less is left for the last window, it shares evenly with the one before it. A silent window gets
    no caption. Files that cannot be read are named, and the other files are captioned. Put a name that begins with a
    dash after --.

    Exit code: 0 done; 1 a file could not be read, or not to its end; 2 bad usage, or no such model; 130 interrupted.

    Examples:

      autorecap caption rain.wav street.mp4 --model weights/autocap

      autorecap caption --json --title "A day at the harbour" -- -recording.flac
    """
    with answered():
        from autorecap.pipeline.caption_files import Unread, caption_files

        captions = _load(model, num_beams, device)
        if model == DEMO and not as_json:
            say("the demo model knows 14 synthesised sounds: give --model for real ones")
        num_unread = 0
        try:
            with Progress(f"{len(files)} files") as shown:
                for answer in caption_files(files, captions, title, lambda n, file: shown(n, len(files), file)):
                    num_unread += isinstance(answer, Unread)
                    _show(answer, as_json)
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            silence_stdout()
        except KeyboardInterrupt:
            say("interrupted: the captions above stand")
            raise typer.Exit(INTERRUPTED) from None
        if num_unread:
            say(f"{num_unread} of {len(files)} files could not be read, or not to their end")
        raise typer.Exit(FINISHED_WITH_FAILURES if num_unread else DONE)


def _load(model: str, num_beams: int, device: str) -> "Captions":
    import torch

    from autorecap.stages.captions import Captions, CaptionsConfig, model_files

    device = choose_device(device, numbered=False)
    with settings_from_options():
        threads = torch.get_num_threads()
        config = CaptionsConfig(model=model, num_beams=num_beams, device=device, num_threads=threads)
        model_files(config)
        return Captions(config)


def _show(answer: "Window | Unread", as_json: bool) -> None:
    """Print a result on standard output, and an error on standard error, with --json on both."""
    from autorecap.base.text import clock, printable
    from autorecap.pipeline.caption_files import Unread

    if as_json:
        print(json.dumps(asdict(answer)), flush=True)
    name = printable(answer.file)
    if isinstance(answer, Unread):
        say(f"{name}: {answer.error}")
    elif not as_json:
        caption = "(silent)" if answer.silent else printable(answer.caption)
        print(f"{name}  {clock(answer.start_ms, digits=1)} - {clock(answer.end_ms, digits=1)}  {caption}", flush=True)
