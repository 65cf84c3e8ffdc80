"""Which stages run in which pool of workers.

Few pools, because each one copies what passes it, and from `media` on that is audio. The split follows what a stage
waits for: disks and networks, CPUs, GPUs.
"""

from collections.abc import Callable

from pipeline.config import BuildConfig
from stages.captions import Captions
from stages.encode import Encode
from stages.keywords import Keywords
from stages.media import Media
from stages.merge import Merge
from stages.probe import Probe
from stages.scores import Scores, text_model
from stages.segments import Segments
from stages.speech import Speech
from stages.stage import Stage
from stages.transcripts import Transcripts
from stages.video_captions import VideoCaptions


def _fetch(config: BuildConfig) -> list[Stage]:
    return [Probe(config.probe), Transcripts(config.transcripts), Segments(config.segments)]


def _media(config: BuildConfig) -> list[Stage]:
    return [Media(config.media, with_frames=bool(config.video_captions.model))]


def _judge(config: BuildConfig) -> list[Stage]:
    device = config.captions.torch_device
    scorer = text_model(config.scores, config.captions)
    stages: list[Stage] = [VideoCaptions(config.video_captions, device)] if config.video_captions.model else []
    stages += [Captions(config.captions, keep_clap=scorer is not None), Merge(), Keywords(config.keywords)]
    if scorer is not None:
        stages.append(Scores(config.scores, scorer, device))
    if config.speech.model:
        stages.append(Speech(config.speech, device))
    return [*stages, Encode()]


POOLS: dict[str, Callable[[BuildConfig], list[Stage]]] = {"fetch": _fetch, "media": _media, "judge": _judge}
"""In the order of the flow; the writer follows."""
