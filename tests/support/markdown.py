"""The project's own pages, taken apart: paragraphs, and blocks of code."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.places import PROJECT

PAGES = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
_ITEM = re.compile(r"(?:[-*]|\d+\.) ")
_FENCE = re.compile(r"( *)(```+|~~~+) *(\w*)")


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list, a table, or code without its indentation."""

    page: str
    line: int
    text: str
    is_code: bool = False
    language: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a page in order.

    Code is fenced, or indented by four spaces after an empty line; an empty line in the latter begins another block.
    """
    page = str(path.relative_to(PROJECT))
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        first = at
        if fence := _FENCE.match(lines[at]):
            indent, mark, language = fence.groups()
            at += 1
            while lines[at].strip() != mark:
                at += 1
            inside = [line.removeprefix(indent) for line in lines[first + 1 : at]]
            found.append(Block(page, first + 2, "\n".join(inside) + "\n", True, language))
            at += 1
        elif lines[at].startswith("    "):
            while at < len(lines) and lines[at].startswith("    "):
                at += 1
            found.append(Block(page, first + 1, "".join(line[4:] + "\n" for line in lines[first:at]), True))
        elif lines[at].strip():
            at += 1
            while at < len(lines) and lines[at].strip() and not _ITEM.match(lines[at]) and not _FENCE.match(lines[at]):
                at += 1
            found.append(Block(page, first + 1, "\n".join(lines[first:at])))
        else:
            at += 1
    return found
