"""Snippets of the pages work: Python is run, settings load, commands parse, and those that are cheap are run.

They run in a folder that holds, small, what the pages name (tests/docs/world.py).
"""

import ast
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from autorecap.base.settings_files import SettingsError
from autorecap.cli import app
from autorecap.pipeline.build.config import load_config
from tests.docs.commands import ELSEWHERE, ROOT, Command, check, check_autorecap, split
from tests.docs.world import make_world
from tests.support.markdown import PAGES, Block, blocks

PROGRAMS = {"autorecap", "python", "torchrun", "ray", "make", "yt-dlp", *ELSEWHERE}
CHEAP = {"config", "segment", "filter", "inspect", "plan", "caption", "generate", "encode"}
FIRST_WORDS = re.compile(r"^([\w-]+) ", re.MULTILINE)
INLINE = re.compile(r"`(autorecap [^`]*)`")

ALL = [block for path in PAGES for block in blocks(path)]


def kind_of(block: Block) -> str:
    """Say what a block of code is: a picture is what is neither a program nor settings."""
    if re.match(r"(import|from) \w", block.text):
        return "python"
    if block.text.split(maxsplit=1)[0] in PROGRAMS:
        return "shell"
    if re.match(r"\w+:\n  \w+:", block.text):
        return "yaml"
    return "picture"


CODE = {
    kind: [block for block in ALL if block.is_code and kind_of(block) == kind]
    for kind in ("python", "shell", "yaml", "picture")
}
COMMANDS = [command for block in CODE["shell"] for command in split(block.text, str(block))]
OURS = [command for command in COMMANDS if command.words[0] == "autorecap" and "s3://" not in str(command)]
RUN = [command for command in OURS if command.words[1] in CHEAP or "--show-config" in command.words]


def help_texts(command: Any, name: str) -> Iterator[tuple[str, str]]:
    for child, each in getattr(command, "commands", {}).items():
        yield f"{name} {child} --help", textwrap.dedent(each.help or "")
        yield from help_texts(each, f"{name} {child}")


def examples() -> Iterator[Command]:
    """Yield the commands that the help texts show: paragraphs that begin with a program."""
    for place, text in help_texts(ROOT, "autorecap"):
        for paragraph in re.split(r"\n\s*\n", text.partition("Examples:")[2]):
            if paragraph.split(maxsplit=1)[:1] in (["autorecap"], ["torchrun"], ["python"]):
                yield from split(" ".join(paragraph.split()), place)


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any) -> Iterator[dict[str, str]]:
    """The placeholders of the pages and what stands for them; the tests run in the folder."""
    folder: Path = tmp_path_factory.mktemp("docs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        placeholders = make_world(folder)
        patch.chdir(folder)
        patch.setattr("autorecap.base.settings_files.CONFIGS", folder / "configs")
        yield placeholders
    torch.set_num_threads(threads)


def filled(text: str, placeholders: dict[str, str]) -> str:
    for name, value in placeholders.items():
        text = text.replace(name, value)
    return text


def test_no_snippet_is_taken_for_a_picture():
    assert min(len(CODE["python"]), len(CODE["shell"])) >= 5 and CODE["yaml"]
    for block in CODE["picture"]:
        starts = set(FIRST_WORDS.findall(block.text))
        assert not starts & (PROGRAMS | {"import", "from"}), f"{block} has a command and is read as a picture"


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_of_the_pages_name_programs_options_settings_and_files_that_exist(command, world):
    check(command.words)


@pytest.mark.parametrize("command", list(examples()), ids=str)
def test_commands_of_the_help_texts_name_options_and_settings_that_exist(command, world):
    check(command.words)


@pytest.mark.parametrize("block", [b for b in ALL if not b.is_code and INLINE.search(b.text)], ids=str)
def test_commands_in_running_text_exist_with_their_options(block):
    for text in INLINE.findall(block.text):
        [command] = split(" ".join(text.split()).removesuffix("..."), str(block))
        check_autorecap(command.words[1:], whole=False)


@pytest.mark.parametrize("command", RUN, ids=str)
def test_cheap_commands_of_the_pages_run(command, world):
    given = "\n".join(command.piped[1:]) if command.piped[:1] == ("echo",) else None
    words: list[str] = []
    for word in command.words[1:]:
        found = sorted(map(str, Path().glob(word))) if "*" in word and " " not in word else []
        words += found or [filled(word, world)]
    shutil.rmtree("wavs", ignore_errors=True)  # of another page, which `generate` does not write over
    result = CliRunner().invoke(app, words, input=given)
    assert result.exit_code == 0, f"autorecap {shlex.join(words)}\n{result.output}"


@pytest.mark.parametrize("block", CODE["python"], ids=str)
def test_python_of_the_pages_runs(block, world):
    text = filled(block.text, world)
    if not torch.cuda.is_available():
        text = text.replace('"cuda"', '"cpu"')
    exec(compile(ast.parse(text), str(block), "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("block", CODE["yaml"], ids=str)
def test_settings_of_the_pages_load(block, tmp_path):
    path = tmp_path / "settings.yaml"
    cookies = tmp_path / "account.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n")
    text = block.text.replace("/etc/autorecap/account.txt", str(cookies))
    text = text if find_spec("socks") else text.replace("socks5h:", "http:")  # needs a package of its own
    path.write_text(text)
    for section, values in yaml.safe_load(text).items():
        assert getattr(load_config(str(path), []), section) != getattr(load_config(None, []), section), values


@pytest.mark.parametrize(
    "wrong",
    [
        "autorecap bild",
        "autorecap build --vidoes x --out y",
        "autorecap build --videos x --out y --set writer.videos=1",
        "autorecap train genau --config genau-xxl --out x",
        "python -m benchmarks.lists --rwos 1",
        "ray submit cluster.yaml build.py -- --out x",
        "make tset",
    ],
)
def test_a_command_that_would_not_work_is_found_out(wrong):
    with pytest.raises((AssertionError, SettingsError)):
        check(shlex.split(wrong))
