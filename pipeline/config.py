"""The settings of a build: YAML in, `--set captions.num_beams=3` on top, one frozen dataclass out.

Each stage declares its own settings; this file puts them together, names what is wrong in the words of the file, and
says which of them make up the fingerprint of a dataset.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.dataset.writer import WriterConfig
from pipeline.errors import ForeseenError
from stages.captions import DEMO, CaptionsConfig, model_files, window_ms
from stages.keywords import KeywordFilter, KeywordsConfig
from stages.media import MediaConfig
from stages.probe import ProbeConfig
from stages.segments import SegmentsConfig
from stages.settings import check, setting
from stages.transcripts import TranscriptsConfig

CONFIGS = Path(__file__).parent.parent / "configs"
CODE_VERSION = 1
"""Raised by hand when the same settings would give another dataset than before."""


class ConfigError(ForeseenError):
    """Settings that cannot be used. The message names the file and the field, and says what to write instead."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """One pool of workers."""

    cpus: float = setting(0.25, "CPUs that one worker occupies.")
    gpus: float = setting(0.0, "GPUs that one worker occupies.")
    min_workers: int = setting(1, "Workers kept at all times.")
    max_workers: int = setting(1, "Workers at most; Ray adds them while there is work and room.")

    def __post_init__(self) -> None:
        check(0 <= self.cpus < 1e6 and 0 <= self.gpus < 1e6, f"pools.*: cpus {self.cpus}, gpus {self.gpus}: 0 or more")
        check(
            1 <= self.min_workers <= self.max_workers,
            f"pools.*: 1 <= min_workers <= max_workers, found {self.min_workers} and {self.max_workers}",
        )


def _pool(cpus: float) -> Any:
    return lambda: PoolConfig(cpus=cpus)


@dataclass(frozen=True, kw_only=True)
class PoolsConfig:
    """Where the stages run. The defaults fit two CPUs."""

    fetch: PoolConfig = setting(_pool(0.25), "probe, transcripts, segments: waits for disks and networks")
    media: PoolConfig = setting(_pool(0.5), "media: ffmpeg")
    judge: PoolConfig = setting(_pool(0.75), "captions, merge, keywords, encode: the GPU pool")
    write: PoolConfig = setting(_pool(0.25), "writer: shards, index, ledger")
    block_videos: int = setting(16, "Videos that travel together. More: less overhead; less: less memory.")
    pass_videos: int = setting(262_144, "A build is a sequence of passes over at most so many videos.")
    wait_for_nodes_s: int = setting(
        0, "Seconds to wait at most for nodes that min_workers need; 0: all must be there at the start."
    )

    def __post_init__(self) -> None:
        check(self.block_videos >= 1, f"pools.block_videos is {self.block_videos}: at least 1")
        check(self.pass_videos >= 1, f"pools.pass_videos is {self.pass_videos}: at least 1")
        check(self.wait_for_nodes_s >= 0, f"pools.wait_for_nodes_s is {self.wait_for_nodes_s}: 0 seconds or more")

    def all(self) -> list[PoolConfig]:
        return [self.fetch, self.media, self.judge, self.write]


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Everything that a build can be told."""

    probe: ProbeConfig = setting(ProbeConfig, "media headers")
    transcripts: TranscriptsConfig = setting(TranscriptsConfig, "which transcript counts")
    segments: SegmentsConfig = setting(SegmentsConfig, "gaps and clips")
    media: MediaConfig = setting(MediaConfig, "audio of the clips")
    captions: CaptionsConfig = setting(CaptionsConfig, "the captioner")
    keywords: KeywordsConfig = setting(KeywordsConfig, "the filter of speech and music")
    writer: WriterConfig = setting(WriterConfig, "shards")
    pools: PoolsConfig = setting(PoolsConfig, "workers")
    max_failed_share: float = setting(
        0.5, "A build in which more than this share of videos failed or wants a retry ends with exit code 1."
    )

    def __post_init__(self) -> None:
        check(0 <= self.max_failed_share <= 1, f"max_failed_share is {self.max_failed_share}: 0 to 1")


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> BuildConfig:
    """The settings of a YAML file (none: the defaults) with `section.field=value` overrides. Raises ConfigError."""
    content: Any = {}
    if path is not None:
        content = _read_yaml(Path(path)) or {}
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: a mapping of sections expected, found {type(content).__name__}")
    _check_names(BuildConfig, content, str(path))
    for override in overrides:
        _apply(content, override)
    try:
        return _with_absolute_paths(TypeAdapter(BuildConfig).validate_python(content))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, path) for problem in error.errors())) from None


def _with_absolute_paths(config: BuildConfig) -> BuildConfig:
    """Workers have another working directory than the driver."""
    captions, keywords = config.captions, config.keywords
    if Path(captions.model).is_dir() and captions.model != DEMO:
        captions = dataclasses.replace(captions, model=str(Path(captions.model).absolute()))
    if keywords.file:
        keywords = dataclasses.replace(keywords, file=str(Path(keywords.file).expanduser().absolute()))
    return dataclasses.replace(config, captions=captions, keywords=keywords)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        bundled = ", ".join(sorted(str(p) for p in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"{path} does not exist. Bundled: {bundled}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable YAML: {error}") from None


def _apply(content: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write it as section.field=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from None
    for part in reversed(name.split(".")):
        value = {part: value}
    _check_names(BuildConfig, value, "--set")
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
            raise ConfigError(f"{where}: unknown option {prefix}{name}; {hint}")
        if isinstance(value, bool) and known[name] is not bool:
            raise ConfigError(
                f"{where}: {prefix}{name} is {value}: yes, no, on, off, true and false are no values for it"
            )
        if dataclasses.is_dataclass(known[name]):
            if value is None:
                content[name] = {}  # a section whose lines are all commented out
            elif isinstance(value, dict):
                _check_names(known[name], value, where, f"{prefix}{name}.")


def _explain(problem: Any, path: str | Path | None) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    source = f"{path}: " if path else ""
    return (
        f"{source}{message}"
        if problem["type"] == "value_error"
        else f"{source}{name}: {message}, found {problem['input']!r}"
    )


def identity(config: BuildConfig) -> dict[str, Any]:
    """What makes one dataset differ from another: the settings that change results, and what they point to."""
    return {
        **dict(_results(config)),
        **_digests(config),
        "code_version": CODE_VERSION,
    }


def fingerprint(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def explain_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """One line per setting that differs, for people."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return "\n".join(f"  {name}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}" for name in names)


def _results(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _results(value, f"{prefix}{field.name}.")
        elif field.metadata.get("results"):
            yield prefix + field.name, list(value) if isinstance(value, tuple) else value


def _digests(config: BuildConfig) -> dict[str, str]:
    """What the files say that the settings point to. Raises ConfigError that names what is missing or wrong."""
    try:
        files = model_files(config.captions)
        window = window_ms(config.captions)
        check(
            config.segments.max_clip_ms <= window,
            f"segments.max_clip_ms is {config.segments.max_clip_ms}: the captioner hears {window} ms at once",
        )
        rules = KeywordFilter(config.keywords.file).fingerprint if config.keywords.enabled else "off"
    except ValueError as error:
        raise ConfigError(str(error)) from error
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return {"captions.model": digest.hexdigest(), "keywords.rules": rules}


def to_yaml(config: BuildConfig) -> str:
    """The settings as YAML, each with its meaning in a comment: a file to start from."""
    return "\n".join(_yaml_lines(config, "")) + "\n"


def _yaml_lines(config: Any, indent: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield f"{indent}# {field.metadata['doc']}"
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            shown = list(value) if isinstance(value, tuple) else value
            yield f"{indent}{field.name}: {json.dumps(shown)}"
