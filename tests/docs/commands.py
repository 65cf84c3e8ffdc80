"""Command lines of the pages, taken apart and held against the programs that they name."""

import argparse
import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from autorecap.base import settings_files
from autorecap.cli import app
from autorecap.cli.train import MODELS
from autorecap.pipeline.build.config import load_config
from tests.support.places import PROJECT

ROOT: Any = typer.main.get_command(app)
PLACEHOLDERS = {"SECONDS": "213", "FILE": "videos/ID.en.json3"}
ENDS = {"|", ";", "&", "&&", "||"}
ELSEWHERE = {"aws", "echo", "source", "pip"}
"""Programs whose options are not looked at."""
BUILDS = {"build", "plan", "config"}
USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]  # which typer has no name for


@dataclass(frozen=True)
class Command:
    """One program with its arguments."""

    place: str
    words: tuple[str, ...]
    piped: tuple[str, ...] = ()
    """The words of the command that it reads from."""

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


def split(text: str, place: str) -> Iterator[Command]:
    """Yield the commands of a shell snippet; its brackets say what may be left out."""
    pending = ""
    for line in text.replace("\\\n", " ").splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            words = _words(pending)
        except ValueError:  # a quotation that goes on in the next line
            continue
        pending = ""
        piped: tuple[str, ...] = ()
        while words:
            end = next((at for at, word in enumerate(words) if word in ENDS), len(words))
            own = words[: words.index(">")] if ">" in words[:end] else words[:end]
            if own:
                yield Command(place, tuple(own), piped)
            piped = tuple(words[:end]) if words[end : end + 1] == ["|"] else ()
            words = words[end + 1 :]
    assert not pending, f"{place}: a quotation does not end"


def _words(line: str) -> list[str]:
    reader = shlex.shlex(re.sub(r"\[(--[^\]]*)\]", r"\1", line), posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    return [PLACEHOLDERS.get(word, word) for word in reader]


def check(words: Sequence[str]) -> None:
    """Raise where the program, the command, an option, a setting or a file of the project that is named is none."""
    program, *rest = words
    match program:
        case "autorecap":
            check_autorecap(rest)
        case "python":
            check_python(rest)
        case "torchrun":
            check_torchrun(rest)
        case "ray":
            check_ray(rest)
        case "make":
            targets = re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
            assert set(rest) <= set(targets), f"make knows no {' '.join(rest)}"
        case "yt-dlp":
            import yt_dlp

            yt_dlp.parse_options(rest)
        case _:
            assert program in ELSEWHERE, f"{program} is no program that this test knows"


def check_autorecap(words: Sequence[str], *, whole: bool = True) -> None:
    """Parse the words as `autorecap` does; those that are not the whole of a command may lack what it needs."""
    command, path, words = ROOT, ["autorecap"], list(words)
    while hasattr(command, "get_command"):
        if not words and not whole:
            return
        name = words.pop(0) if words else "nothing"
        path.append(name)
        command = command.get_command(None, name)
        assert command is not None, f"there is no `{' '.join(path)}`"
    try:
        context = command.make_context(path[-1], list(words), resilient_parsing=not whole)
        command.make_parser(context).parse_args(list(words))
    except USAGE_ERROR as error:
        raise AssertionError(f"{shlex.join([*path, *words])}: {error}") from error
    if whole:
        _check_settings(path[1:], context.params)


def _check_settings(path: Sequence[str], given: dict[str, Any]) -> None:
    name = given.get("config")
    mine = name is not None and (name.isupper() or Path(name).name in ("mine.yaml", "..."))  # the reader's own
    config = None if name is None or mine else PROJECT / name if (PROJECT / name).is_file() else name
    if path[0] in BUILDS:
        load_config(config, given["set_"] or [])
    elif path[0] == "train":
        kind, _ = next(model for model in MODELS if model.name == path[1]).load()
        settings_files.load(kind, config, given["set_"] or [])


def check_python(words: Sequence[str]) -> None:
    if words[0] == "-m" and words[1] == "autorecap":
        check_autorecap(words[2:])
    elif words[0] == "-m":
        assert find_spec(words[1]), f"there is no module {words[1]}"
        _check_argparse(words[1], words[2:])
    else:
        _check_script(words[0], words[1:])


def _check_script(name: str, words: Sequence[str]) -> None:
    """Check the arguments of a script at the top of the project, which passes them to `autorecap`."""
    assert (PROJECT / name).is_file(), f"there is no {name}"
    called: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *words])
        patch.setattr("autorecap.cli.app", lambda args, **_: called.append(args))
        runpy.run_path(str(PROJECT / name), run_name="__main__")
    check_autorecap(called[0])


class _Parsed(Exception):
    pass


def _check_argparse(name: str, words: Sequence[str]) -> None:
    """Let the module parse the words, and go no further."""
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def parse_args(parser: argparse.ArgumentParser) -> None:
        _, strange = parse_known_args(parser, list(words))
        assert not strange, f"{name} knows no {strange}"
        raise _Parsed

    is_package = (PROJECT / name.replace(".", "/")).is_dir()
    module: Any = importlib.import_module(f"{name}.__main__" if is_package else name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(_Parsed):
            module.main()


def check_torchrun(words: Sequence[str]) -> None:
    from torch.distributed.run import get_args_parser

    options = get_args_parser().parse_args(list(words))
    assert options.module and options.training_script == "autorecap"
    check_autorecap(options.training_script_args)


def check_ray(words: Sequence[str]) -> None:
    """Check the cluster files and the scripts that ray is given; what follows `--` is a command of ours."""
    words = list(words)
    ours = words[words.index("--") + 1 :] if "--" in words else []
    match words:
        case ["submit", cluster, script, *_]:
            assert (PROJECT / cluster).is_file(), f"there is no {cluster}"
            _check_script(script, ours)
        case ["up" | "down", cluster]:
            assert (PROJECT / cluster).is_file(), f"there is no {cluster}"
        case ["job", "submit", *_]:
            check(ours)
        case ["start", *_]:
            pass
        case _:
            raise AssertionError(f"ray {' '.join(words)} is nothing that this test knows")
