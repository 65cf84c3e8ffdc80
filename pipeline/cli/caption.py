"""`autorecap caption`: what AutoCap hears in audio and video files."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.errors import answered
from pipeline.errors import DONE, FINISHED_WITH_FAILURES, INTERRUPTED, ForeseenError

if TYPE_CHECKING:
    from stages.caption_files import Unread, Window
    from stages.captions import Captions

_EVERY_S = 10.0  # between the lines of progress in a log


def caption(
    files: Annotated[list[str], typer.Argument(help="Audio or video files, local or as URLs.", show_default=False)],
    model: Annotated[
        str, typer.Option(help="A folder or hub id of AutoCap, or demo: the bundled one, which knows 14 made sounds.")
    ] = "demo",
    title: Annotated[str, typer.Option(help="What is known about the files, such as a video's title.")] = "",
    num_beams: Annotated[int, typer.Option(help="Beams of the search.", min=1, max=32)] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is a GPU.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, errors too.")] = False,
) -> None:
    """Caption the sounds of files, in windows of 10 s with their times.

    A rest of up to a second shares a window with the audio before it. A silent window gets no caption. Files that
    cannot be read are named, and the others go on. A name that begins with a dash goes after --.

    Exit code: 0 done; 1 a file could not be read, or not to its end; 2 bad usage, or no such model; 130 interrupted.

    Examples:

      autorecap caption rain.wav street.mp4 --model models/autocap

      autorecap caption --json --title "A day at the harbour" -- -recording.flac
    """
    with answered():
        from stages.caption_files import Unread, caption_files

        captions = _load(model, num_beams, device)
        if model == "demo" and not as_json:
            _say("the demo model knows 14 synthesised sounds: give --model for real ones")
        num_unread = 0
        try:
            with _progress(len(files)) as heard:
                for answer in caption_files(files, captions, title, heard):
                    num_unread += isinstance(answer, Unread)
                    _show(answer, as_json)
        except BrokenPipeError:  # the reader has seen enough, as `head` does
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            _say("interrupted: the captions above stand")
            raise typer.Exit(INTERRUPTED) from None
        if num_unread:
            _say(f"{num_unread} of {len(files)} files could not be read, or not to their end")
        raise typer.Exit(FINISHED_WITH_FAILURES if num_unread else DONE)


def _load(model: str, num_beams: int, device: str) -> "Captions":
    import torch

    from models.files import ModelFilesError
    from stages.captions import Captions, CaptionsConfig, model_files

    if device == "cuda" and not torch.cuda.is_available():
        raise ForeseenError("--device cuda: there is no GPU here that torch can use. Leave it out, or give cpu")
    try:
        threads = torch.get_num_threads()
        config = CaptionsConfig(model=model, num_beams=num_beams, device=device, num_threads=threads)
        model_files(config)
        return Captions(config)
    except (ModelFilesError, ValueError) as error:
        raise ForeseenError(str(error).replace("captions.", "--", 1)) from error


def _show(answer: "Window | Unread", as_json: bool) -> None:
    """A result on standard output; an error on standard error, and where scripts read, there as well."""
    from stages.caption_files import Unread
    from stages.text import printable

    if as_json:
        print(json.dumps(asdict(answer)), flush=True)
    name = printable(answer.file)
    if isinstance(answer, Unread):
        _say(f"{name}: {answer.error}")
    elif not as_json:
        said = "(silent)" if answer.silent else printable(answer.caption)
        print(f"{name}  {_clock(answer.start_ms)} - {_clock(answer.end_ms)}  {said}", flush=True)


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000 // 100}"


def _say(message: str) -> None:
    print(f"autorecap: {message}", file=sys.stderr, flush=True)


@contextmanager
def _progress(num_files: int) -> Iterator[Callable[[float, str], None]]:
    """How far it is: a bar on a terminal, now and then a line in a log."""
    from stages.text import printable

    if not sys.stderr.isatty():
        shown_at = time.monotonic()

        def line(num_done: float, file: str) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= _EVERY_S:
                shown_at = time.monotonic()
                _say(f"{num_done / num_files:.1%} of {num_files} files, now {printable(file, 60)}")

        yield line
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    # Results that go to the same terminal are printed above the bar; those that go elsewhere are left alone.
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task("reading", total=num_files)
        yield lambda num_done, file: bar.update(task, completed=num_done, description=printable(file, 40))
