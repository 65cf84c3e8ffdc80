"""The filter that a keyword file describes (paper, A.3).

`configs/keywords.yaml` explains the notation to its reader; `pattern.py` makes one pattern of it:

    \\b (?: (?P<allowed> exceptions) | (?P<keyword> keywords) ) \\b

A scan from left to right meets exceptions first. Where one matches, its words are consumed and the scan goes on behind
them, so that it excuses its own words only; the first keyword that is left decides.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from autorecap.stages.keyword_files.pattern import Compiler, NotationError, normalise

BUNDLED_KEYWORDS = Path(__file__).parents[2] / "configs" / "keywords.yaml"

EMPTY_CAPTION = "(empty caption)"
"""What `match` returns for a caption without a word, which is no evidence of ambience and is not kept."""

SECTIONS = ("keywords", "exceptions", "lists", "stops")


class KeywordFilter:
    """The keywords and exceptions of one file. Raises ValueError that names the file and the field that is wrong."""

    def __init__(self, file: str | Path = "") -> None:
        self.file = Path(file) if file else BUNDLED_KEYWORDS
        sections = _load(self.file)
        self._fields: dict[str, str] = {}  # entry to the field that holds it, for messages
        self._lists = {name: self._entries(f"lists.{name}", items) for name, items in sections["lists"].items()}
        self._keywords = self._entries_of_groups("keywords", sections["keywords"])
        self._exceptions = self._entries_of_groups("exceptions", sections["exceptions"])
        self._stops = self._entries("stops", sections["stops"])
        if not self._keywords:
            raise ValueError(f"{self.file}: keywords: found none: write at least one, such as `speech: [talk(s/ing)]`")
        try:
            self._compiled = Compiler(self._lists).compile(self._keywords, self._exceptions, self._stops)
        except NotationError as error:
            raise ValueError(
                f"{self.file}: {self._fields.get(error.entry, 'entry')}: {error}; the notation stands on top of "
                f"{BUNDLED_KEYWORDS}"
            ) from error

    def match(self, caption: str) -> str | None:
        """Return the keyword that drops the caption, in lower case; None where the caption may stay."""
        text = normalise(caption)
        return self._compiled.first_keyword(text) or (None if any(map(str.isalnum, text)) else EMPTY_CAPTION)

    @property
    def plain_keywords(self) -> tuple[str, ...]:
        """Keywords that are words or fixed phrases, with all inflections; the others are patterns."""
        return self._compiled.plain

    def _entries(self, field: str, lines: Iterable[str]) -> tuple[str, ...]:
        """Return the comma-separated entries of all lines, normalised."""
        entries = tuple(entry for line in lines for part in line.split(",") if (entry := normalise(part)))
        self._fields.update(dict.fromkeys(entries, field))
        return entries

    def _entries_of_groups(self, section: str, groups: Mapping[str, list[str]]) -> tuple[str, ...]:
        return tuple(e for name, lines in groups.items() for e in self._entries(f"{section}.{name}", lines))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the file says: comments, order and the names of groups do not change it."""
        content = {
            "keywords": sorted(set(self._keywords)),
            "exceptions": sorted(set(self._exceptions)),
            "stops": sorted(set(self._stops)),
            "lists": {name: sorted(set(entries)) for name, entries in self._lists.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _load(file: Path) -> dict[str, Any]:
    """Read the four sections, each of the right shape. Raises ValueError otherwise."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: the keyword file cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{file}: not YAML in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: found {_kind(content)}: write the sections {', '.join(SECTIONS)}")
    for unknown in sorted(map(str, content.keys() - set(SECTIONS))):
        raise ValueError(f"{file}: {unknown}: no such section: write one of {', '.join(SECTIONS)}")
    sections: dict[str, Any] = {name: content.get(name) or {} for name in SECTIONS}
    sections["stops"] = content.get("stops") or []
    for name in ("keywords", "exceptions", "lists"):
        if not isinstance(sections[name], dict):
            raise ValueError(
                f"{file}: {name}: found {_kind(sections[name])}: write groups, such as `speech: [talk(s)]`"
            )
        for group, items in sections[name].items():
            _check_items(items, f"{file}: {name}.{group}")
    _check_items(sections["stops"], f"{file}: stops")
    return sections


def _check_items(items: Any, where: str) -> None:
    if not isinstance(items, list):
        raise ValueError(f"{where}: found {_kind(items)}: write a list, each line as `- word, word(s), some phrase`")
    for item in items:
        if isinstance(item, bool):
            raise ValueError(f'{where}: found {item}: YAML reads on, off, yes and no so: put the word in quotes, "on"')
        if not isinstance(item, str):
            raise ValueError(
                f"{where}: found {_kind(item)} ({item}): write words, in quotes if YAML takes them for more"
            )


def _kind(value: Any) -> str:
    names = {dict: "a group", list: "a list", str: "text", type(None): "nothing", bool: "true or false"}
    return names.get(type(value), f"a {type(value).__name__}")
