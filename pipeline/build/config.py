"""The settings of a build: YAML in, `--set captions.num_beams=3` on top, one frozen dataclass out.

Each stage declares its own settings; this file puts them together, names what is wrong in the words of the file, and
says which of them make up the fingerprint of a dataset.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorecap.base import settings_files as settings
from autorecap.base.settings import Section, absolute_paths, check, result_settings, setting
from autorecap.base.settings_files import SettingsError
from autorecap.models import DEMO
from autorecap.pipeline.build.bundle_writer import WriterConfig
from autorecap.stages import scores, speech, video_captions
from autorecap.stages.captions import CaptionsConfig, model_files, window_ms
from autorecap.stages.inference import hub
from autorecap.stages.keyword_files.keyword_filter import KeywordFilter
from autorecap.stages.keywords import KeywordsConfig
from autorecap.stages.media import MediaConfig
from autorecap.stages.probe import ProbeConfig
from autorecap.stages.scores import AUTO, OWN, ScoresConfig
from autorecap.stages.segments import SegmentsConfig
from autorecap.stages.speech import SpeechConfig
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.video_captions import VideoCaptionsConfig
from autorecap.stages.youtube.config import YoutubeConfig

CODE_VERSION = 3
"""Raised by hand when the same settings would give another dataset than before."""
_BEYOND_ANY_MACHINE = 1_000_000
"""CPUs or GPUs of one worker stay below it, so that neither `.inf` in a YAML file nor a slip reaches Ray."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig(Section, name="pools.*"):
    """One pool of workers."""

    cpus: float = setting(0.25, "CPUs that one worker occupies.", ge=0, lt=_BEYOND_ANY_MACHINE)
    gpus: float = setting(0.0, "GPUs that one worker occupies.", ge=0, lt=_BEYOND_ANY_MACHINE)
    min_workers: int = setting(1, "Workers kept at all times.", ge=1)
    max_workers: int = setting(1, "Workers at most; they are added while there is work and room.", ge=1)

    def validate(self) -> None:
        check(
            self.min_workers <= self.max_workers,
            "pools.*.max_workers",
            f"expected min_workers, {self.min_workers}, or more, found {self.max_workers}",
        )


def _pool(cpus: float) -> Any:
    return lambda: PoolConfig(cpus=cpus)


@dataclass(frozen=True, kw_only=True)
class PoolsConfig(Section, name="pools"):
    """Where the stages run. The defaults fit two CPUs."""

    fetch: PoolConfig = setting(_pool(0.25), "probe, transcripts, segments: waits for disks and networks")
    media: PoolConfig = setting(_pool(0.5), "media: ffmpeg")
    judge: PoolConfig = setting(_pool(0.75), "all models, and the FLAC stage at the end: the GPU pool")
    write: PoolConfig = setting(_pool(0.25), "writer: shards, index, ledger")
    block_videos: int = setting(16, "Videos that travel together. More: less overhead; less: less memory.", ge=1)
    pass_videos: int = setting(262_144, "A build is a sequence of passes over at most so many videos.", ge=1)
    wait_for_nodes_s: int = setting(
        0, "Seconds to wait at most for nodes that min_workers need; 0: all must be there at the start.", ge=0
    )

    def used(self, *, until_segments: bool = False) -> list[PoolConfig]:
        """Return the pools that a build has workers in."""
        return [self.fetch, self.write] if until_segments else [self.fetch, self.media, self.judge, self.write]


@dataclass(frozen=True, kw_only=True)
class BuildConfig(Section, name=""):
    """Everything that a build can be told."""

    probe: ProbeConfig = setting(ProbeConfig, "headers of media files")
    transcripts: TranscriptsConfig = setting(TranscriptsConfig, "which transcripts count")
    segments: SegmentsConfig = setting(SegmentsConfig, "gaps and clips")
    media: MediaConfig = setting(MediaConfig, "audio of the clips")
    video_captions: VideoCaptionsConfig = setting(VideoCaptionsConfig, "captions of the picture, for the captioner")
    captions: CaptionsConfig = setting(CaptionsConfig, "the captioner")
    keywords: KeywordsConfig = setting(KeywordsConfig, "the filter of speech and music")
    scores: ScoresConfig = setting(ScoresConfig, "how well captions fit the sound")
    speech: SpeechConfig = setting(SpeechConfig, "how likely a clip holds speech")
    youtube: YoutubeConfig = setting(YoutubeConfig, "requests to YouTube")
    writer: WriterConfig = setting(WriterConfig, "shards")
    pools: PoolsConfig = setting(PoolsConfig, "workers")
    max_failed_share: float = setting(
        0.5,
        "A build in which more than this share of videos failed or wants a retry ends with exit code 1.",
        ge=0,
        le=1,
    )


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> BuildConfig:
    """Read settings as `settings_files.load` does, and make the paths in them absolute. Raises SettingsError."""
    return absolute_paths(settings.load(BuildConfig, path, overrides), (DEMO, AUTO, OWN))


UP_TO_SEGMENTS = ("probe.", "transcripts.", "segments.")
"""Sections whose settings a dataset of segments depends on."""


def identity(config: BuildConfig, *, until_segments: bool = False) -> dict[str, Any]:
    """Return what makes one dataset differ from another: the settings that change results, and what they point to.

    `until_segments`: of a dataset of segments, which no model has a part in.
    """
    settings = result_settings(config)
    if until_segments:
        settings = {name: value for name, value in settings.items() if name.startswith(UP_TO_SEGMENTS)}
        return {**settings, "code_version": CODE_VERSION}
    return {**settings, **_digests(config), "code_version": CODE_VERSION}


def _digests(config: BuildConfig) -> dict[str, str]:
    """Return digests of the files that the settings point to. Raises SettingsError that names a missing or bad one."""
    try:
        window = window_ms(config.captions)
        check(
            config.segments.max_clip_ms <= window,
            "segments.max_clip_ms",
            f"expected {window} or less, which is what the captioner hears at once, "
            f"found {config.segments.max_clip_ms}",
        )
        text_model = scores.text_model(config.scores, config.captions)
        return {
            "captions.model": _digest(model_files(config.captions)),
            "keywords.rules": KeywordFilter(config.keywords.file).fingerprint if config.keywords.enabled else "off",
            "scores.text_model": _digest(scores.text_model_files(text_model)) if text_model else "none",
            "speech.model": _digest(hub.model_files(speech.find_model(config.speech)[0]))
            if config.speech.model
            else "off",
            "video_captions.model": _digest(hub.model_files(video_captions.find_model(config.video_captions)))
            if config.video_captions.model
            else "off",
        }
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
