"""The map of rooms in architecture.md is drawn by this script from the code: what each holds, and what it imports.

python docs/rooms.py            writes it, as `make rooms` does
python docs/rooms.py --check    says whether the page still shows the code, as `make check` does
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by `make rooms` -->\n", "<!-- end of what `make rooms` makes -->\n"
ROOT = "autorecap"


def rooms() -> dict[str, set[str]]:
    """Each room with those that it imports, top floor first."""
    graph = grimp.build_graph(ROOT, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        room = _room(module)
        others = {_room(other) for other in graph.find_modules_directly_imported_by(module)}
        if room:
            found.setdefault(room, set()).update(others - {room, ""})
    top_first: list[str] = []
    while len(top_first) < len(found):
        left = set(found) - set(top_first)
        free = sorted(room for room in left if not any(room in found[other] for other in left - {room}))
        if not free:
            raise SystemExit(f"these rooms import one another: {', '.join(sorted(left))}")
        top_first += free
    return {room: found[room] for room in top_first}


def _room(module: str) -> str:
    """The room of a module; "" for the face, `autorecap` itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PROJECT / parts[1]).is_dir() and parts[1] != "configs" else ""


def drawn(imports: dict[str, set[str]]) -> str:
    """The map: a diagram without the arrows that follow from others, a table with all of them, and the rooms inside."""
    lines = ["```mermaid", "graph TD"]
    for room, below in imports.items():
        longer = {further for each in below for further in _all_below(each, imports)}
        lines += [f"    {room} --> {other}" for other in imports if other in below - longer]
    lines += ["```", "", "| room | holds | imports |", "|---|---|---|"]
    for room, below in imports.items():
        listed = ", ".join(f"`{other}`" for other in imports if other in below)
        lines.append(f"| `{room}/` | {_sentence(PROJECT / room)} | {listed} |")
    lines += ["", "Rooms inside rooms:", ""]
    lines += [
        f"- `{folder.relative_to(PROJECT)}/`: {_sentence(folder)}" for room in imports for folder in _inside(room)
    ]
    return "\n".join(lines) + "\n"


def _all_below(room: str, imports: dict[str, set[str]]) -> set[str]:
    return imports[room].union(*(_all_below(other, imports) for other in imports[room]))


def _inside(room: str) -> Iterator[Path]:
    return (path.parent for path in sorted((PROJECT / room).rglob("__init__.py")) if path.parent.name != room)


def _sentence(folder: Path) -> str:
    """The first paragraph of a package's docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    if not text:
        raise SystemExit(f"{folder / '__init__.py'} has no docstring: write what the folder holds")
    return " ".join(text.split("\n\n")[0].split())


def main() -> None:
    page = PAGE.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise SystemExit(f"{PAGE.relative_to(PROJECT)} needs one line {BEGIN.strip()!r} and one {END.strip()!r}")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = before + BEGIN + drawn(rooms()) + END + after
    if "--check" in sys.argv[1:]:
        if made != page:
            raise SystemExit(f"{PAGE.relative_to(PROJECT)} shows other rooms than the code: run `make rooms`")
    else:
        PAGE.write_text(made)


if __name__ == "__main__":
    main()
