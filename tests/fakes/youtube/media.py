"""Media files as YouTube has them, of a sound that can be computed at any time: to compare clips with their source."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autorecap.stages.media_files.ffmpeg import ffmpeg_exe

_SHAPES: dict[str, tuple[int, tuple[str, ...]]] = {
    # itag: sample rate, and what makes ffmpeg write a file of this kind (delay_moov: with an edit list, which says how
    # late the codec is)
    "140": (44_100, ("-c:a", "aac", "-b:a", "128k", "-f", "mp4", "-movflags", "+dash+global_sidx+delay_moov")),
    "249": (48_000, ("-c:a", "libopus", "-b:a", "50k", "-f", "webm", "-cues_to_front", "1")),
    "250": (48_000, ("-c:a", "libopus", "-b:a", "70k", "-f", "webm", "-cues_to_front", "1")),
    "251": (48_000, ("-c:a", "libopus", "-b:a", "140k", "-f", "webm", "-cues_to_front", "1")),
}
ITAGS = tuple(_SHAPES)
_FRAGMENT_MS = 10_000  # as YouTube's; of mp4 and of webm
_FASTEST = ("-aac_coder", "fast", "-compression_level", "0")


def sound(second: int, sample_rate_hz: int) -> np.ndarray:
    """One second of the sound, 16-bit: noise, another one each second, so that no moment looks like another."""
    draw = np.random.default_rng(second)
    return draw.integers(-8_000, 8_000, sample_rate_hz, dtype=np.int16)


def source(start_ms: int, end_ms: int, sample_rate_hz: int) -> np.ndarray:
    """The sound from `start_ms` to `end_ms`, at the rate of a format, float."""
    seconds = range(start_ms // 1000, -(-end_ms // 1000))
    samples = np.concatenate([sound(second, sample_rate_hz) for second in seconds])
    first = (start_ms - 1000 * seconds[0]) * sample_rate_hz // 1000
    return samples[first : first + (end_ms - start_ms) * sample_rate_hz // 1000].astype(np.float64)


def synthesise(folder: Path, itag: str, seconds: int, *more: str) -> Path:
    """A file of this format in `folder`; made once. `more`: options of ffmpeg's that change its shape."""
    rate, options = _SHAPES[itag]
    name = "-".join([itag, str(seconds), *(part.strip("-+") for part in more)])
    path = folder / f"{name}.{'m4a' if itag == '140' else 'webm'}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    shape = ["-frag_duration", f"{_FRAGMENT_MS}000", "-cluster_time_limit", str(_FRAGMENT_MS), *_FASTEST]
    command = [ffmpeg_exe(), "-y", "-loglevel", "error", "-f", "s16le", "-ar", str(rate), "-ac", "1", "-i", "-"]
    command += [*options, *shape, *more, str(unfinished)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for part in _pcm(seconds, rate):
            encoder.stdin.write(part)
        encoder.stdin.close()
        if encoder.wait():
            raise RuntimeError(f"ffmpeg could not make {path.name}")
    return unfinished.rename(path)


def _pcm(seconds: int, rate: int) -> Iterator[bytes]:
    for second in range(seconds):
        yield sound(second, rate).tobytes()
