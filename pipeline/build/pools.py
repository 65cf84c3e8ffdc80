"""Says which stages run in which pool of workers.

Few pools, because each one copies what passes it, and from `media` on that is audio. The split follows what a stage
waits for: disks and networks, CPUs, GPUs.
"""

import math
from collections.abc import Callable

from autorecap.pipeline.build.config import BuildConfig
from autorecap.stages.captions import Captions
from autorecap.stages.flac import Flac
from autorecap.stages.keywords import Keywords
from autorecap.stages.media import Media
from autorecap.stages.merge import Merge
from autorecap.stages.probe import Probe
from autorecap.stages.scores import Scores, text_model
from autorecap.stages.segments import Segments
from autorecap.stages.speech import Speech
from autorecap.stages.stage import Stage
from autorecap.stages.transcripts import Transcripts
from autorecap.stages.video_captions import VideoCaptions
from autorecap.stages.youtube.budget import Budget
from autorecap.stages.youtube.client import Youtube


def _fetch(config: BuildConfig, budget: Budget) -> list[Stage]:
    youtube = _youtube(config, budget, config.youtube.in_flight)
    return [Probe(config.probe), Transcripts(config.transcripts, youtube), Segments(config.segments)]


def _media(config: BuildConfig, budget: Budget) -> list[Stage]:
    youtube = _youtube(config, budget, config.youtube.media_in_flight)
    return [Media(config.media, youtube, with_frames=bool(config.video_captions.model))]


def _judge(config: BuildConfig, budget: Budget) -> list[Stage]:
    device = config.captions.torch_device
    scorer = text_model(config.scores, config.captions)
    stages: list[Stage] = [VideoCaptions(config.video_captions, device)] if config.video_captions.model else []
    stages += [Captions(config.captions, keep_clap=scorer is not None), Merge(), Keywords(config.keywords)]
    if scorer is not None:
        stages.append(Scores(config.scores, scorer, device))
    if config.speech.model:
        stages.append(Speech(config.speech, device))
    return [*stages, Flac()]


def _youtube(config: BuildConfig, budget: Budget, in_flight: int) -> Youtube:
    return Youtube(config.youtube, config.transcripts, config.media.sample_rate_hz, budget, in_flight=in_flight)


_MAKERS: dict[str, Callable[[BuildConfig, Budget], list[Stage]]] = {"fetch": _fetch, "media": _media, "judge": _judge}

POOLS = tuple(_MAKERS)
"""In the order of the flow; the writer follows."""


def stages_of(pool: str, config: BuildConfig, budget: Budget | None = None) -> list[Stage]:
    """Make the stages of a pool. `budget`: the requests to YouTube; None: a budget of this process alone."""
    return _MAKERS[pool](config, budget or config.youtube.local_budget())


def blocks_at_once(pool: str, config: BuildConfig) -> int:
    """Return on how many blocks a worker of the pool works at once: one that waits for a network, on several.

    So many that as many videos can be asked for as `youtube.in_flight` says.
    """
    return math.ceil(config.youtube.in_flight / config.pools.block_videos) if pool == "fetch" else 1
