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
from stages.segments import Segments
from stages.stage import Stage
from stages.transcripts import Transcripts


def _fetch(config: BuildConfig) -> list[Stage]:
    return [Probe(config.probe), Transcripts(config.transcripts), Segments(config.segments)]


def _media(config: BuildConfig) -> list[Stage]:
    return [Media(config.media)]


def _judge(config: BuildConfig) -> list[Stage]:
    return [Captions(config.captions), Merge(), Keywords(config.keywords), Encode()]


POOLS: dict[str, Callable[[BuildConfig], list[Stage]]] = {"fetch": _fetch, "media": _media, "judge": _judge}
"""In the order of the flow; the writer follows."""
