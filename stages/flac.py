"""The FLAC stage compresses the audio of kept clips before it leaves the pool, which halves what is sent."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soundfile

from autorecap.stages.records import Clip, Verdict, Video


class Flac:
    """Turns the PCM of kept clips into FLAC, and drops the audio of all other clips."""

    name = "encode"  # in the ledgers of all datasets

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [video.map_clips(_encoded) for video in videos]


def _encoded(clip: Clip) -> Clip:
    if clip.verdict is not Verdict.KEPT or clip.audio is None:
        return clip.emptied()
    buffer = io.BytesIO()
    samples = np.frombuffer(clip.audio, dtype="<i2")
    soundfile.write(buffer, samples, clip.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return replace(clip.emptied(), audio=buffer.getvalue())
