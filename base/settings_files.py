"""Settings of any command: YAML in, `--set section.field=value` on top, one frozen dataclass out.

The dataclass declares its fields by `autorecap.base.settings.setting`; what is wrong is said in the words of the file.
"""

import dataclasses
import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from autorecap.base.errors import ForeseenError

CONFIGS = Path(__file__).parent.parent / "configs"
Settings = TypeVar("Settings")


class SettingsError(ForeseenError):
    """Settings that cannot be used. The message names the file and the field, and says what to write instead."""


def load(kind: type[Settings], path: str | Path | None, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a YAML file (none: the defaults) with `section.field=value` overrides. Raises SettingsError."""
    content: Any = {}
    if path is not None:
        content = _read_yaml(Path(path)) or {}
        if not isinstance(content, dict):
            raise SettingsError(f"{path}: a mapping of sections expected, found {type(content).__name__}")
    _check_names(kind, content, str(path))
    for override in overrides:
        _apply(kind, content, override)
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        names = {override.partition("=")[0] for override in overrides}
        raise SettingsError("\n".join(_explain(problem, path, names) for problem in error.errors())) from None


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        bundled = ", ".join(sorted(str(p) for p in CONFIGS.glob("*.yaml")))
        raise SettingsError(f"{path} does not exist. Bundled: {bundled}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"{path} is not readable YAML: {error}") from None


def _apply(kind: Any, content: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise SettingsError(f"--set {override}: write it as section.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {override}: the value is not YAML: {error}") from None
    for part in reversed(name.split(".")):
        value = {part: value}
    _check_names(kind, value, "--set")
    _merge(content, value)


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value


def _check_names(kind: Any, content: dict[str, Any], where: str, prefix: str = "") -> None:
    """Refuse options that are not there, and yes or no where a number is wanted: YAML reads it from many a word."""
    known = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in list(content.items()):
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown option {prefix}{name}; {hint}")
        if isinstance(value, bool) and known[name] is not bool:
            raise SettingsError(
                f"{where}: {prefix}{name} is {value}: yes, no, on, off, true and false are no values for it"
            )
        if dataclasses.is_dataclass(known[name]):
            if value is None:
                content[name] = {}  # a section whose lines are all commented out
            elif isinstance(value, dict):
                _check_names(known[name], value, where, f"{prefix}{name}.")


def _explain(problem: Any, path: str | Path | None, overridden: Collection[str]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    is_set = any(each == name or (each.startswith(f"{name}.") and each in message) for each in overridden)
    source = "--set: " if is_set else f"{path}: " if path else ""
    if problem["type"] == "value_error":
        return f"{source}{message}"
    if problem["type"] == "tuple_type":
        message = "expected a list, such as [a, b]"
    return f"{source}{name}: {message}, found {problem['input']!r}"


def to_yaml(settings: Any) -> str:
    """The settings as YAML, each with its meaning in a comment: a file to start from."""
    return "\n".join(_yaml_lines(settings, "")) + "\n"


def _yaml_lines(settings: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        yield f"{indent}# {field.metadata['doc']}"
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            shown = list(value) if isinstance(value, tuple) else value
            yield f"{indent}{field.name}: {json.dumps(shown)}"
