"""Settings of any command: YAML in, `--set section.field=value` on top, one frozen dataclass out.

The dataclass declares its fields by `autorecap.base.settings.setting`; errors name the file and section.field.
"""

import dataclasses
import difflib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from autorecap.base.errors import ForeseenError
from autorecap.base.settings import SettingError, allowed_values
from autorecap.base.text import redacted

CONFIGS = Path(__file__).parent.parent / "configs"
"""The bundled files of settings lie here."""
Settings = TypeVar("Settings")
_BOOLEAN = "a boolean: YAML reads yes, no, on, off, true and false so, unless they are quoted"
_EXPECTED = {  # in place of pydantic's words, by its name for the error
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected text",
    "tuple_type": "expected a list, such as [a, b]",
    "dataclass_type": "expected a section, with a setting a line",
}


class SettingsError(ForeseenError):
    """Settings cannot be used. The message names the file and the field, and says what to write instead."""


def load(kind: type[Settings], path: str | Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Return the settings of a YAML file (none: the defaults) with `section.field=value` overrides on top.

    path: of the file, or the name of a bundled one, such as "genau-demo". Raises SettingsError.
    """
    content: Any = {}
    if path is not None:
        content = _read_yaml(_file(path)) or {}
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


def _file(path: str | Path) -> Path:
    """Return the path, or the bundled file of that name where there is no file at the path."""
    path = Path(path)
    bundled = _bundled().get(path.name.removesuffix(".yaml"))
    is_name = path == Path(path.name)  # a checkout holds a folder demo/, and `demo` is the file there as well
    return bundled if bundled and is_name and (path.is_dir() or not path.exists()) else path


def _bundled() -> dict[str, Path]:
    return {path.stem: path for path in sorted(CONFIGS.glob("*.yaml")) if path.stem != "keywords"}  # no settings


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist. Name a file, or a bundled one: {', '.join(_bundled())}") from None
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
    """Refuse options that do not exist, and booleans in place of numbers, which pydantic would take for 0 and 1."""
    known = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, value in list(content.items()):
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown option {prefix}{name}; {hint}")
        kinds = {known[name], *get_args(known[name])}
        if kinds & {int, float} and any(isinstance(each, bool) for each in _elements(value)):
            raise SettingsError(f"{where}: {prefix}{name}: expected a number, found {_BOOLEAN}")
        if dataclasses.is_dataclass(known[name]):
            if value is None:
                content[name] = {}  # a section whose lines are all commented out
            elif isinstance(value, dict):
                _check_names(known[name], value, where, f"{prefix}{name}.")


def _elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _explain(problem: Any, path: str | Path | None, overridden: Collection[str]) -> str:
    """Return an error of pydantic as one line that names the file, or --set, and the setting."""
    place = [part for part in problem["loc"] if isinstance(part, str)]  # numbers are places in a list
    error = problem.get("ctx", {}).get("error")
    if isinstance(error, SettingError):
        message = error.problem
        place.append(error.name.rpartition(".")[2])  # a section that stands in several places does not know which
    elif problem["type"] == "value_error":
        message = str(error)
    else:
        expected = _EXPECTED.get(problem["type"], problem["msg"])
        message = f"{expected}, found {_BOOLEAN if isinstance(problem['input'], bool) else repr(problem['input'])}"
    name = ".".join(place)
    is_set = any(f"{name}.".startswith(f"{each}.") or each in message for each in overridden)
    source = "--set: " if is_set else f"{path}: " if path else ""
    return redacted(f"{source}{name}: {message}")


def to_yaml(settings: Any) -> str:
    """Return the settings as YAML, each with its meaning and its allowed values in a comment: a file to start from."""
    return "\n".join(_yaml_lines(settings, "")) + "\n"


def _yaml_lines(settings: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        allowed = allowed_values(field)
        yield f"{indent}# {field.metadata['doc']}" + (f" [{allowed}]" if allowed else "")
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            shown = list(value) if isinstance(value, tuple) else value
            yield f"{indent}{field.name}: {json.dumps(shown)}"
