"""Runs ffmpeg, to read headers of media files, audio as samples, and single pictures.

The files come from outside. So ffmpeg may open nothing but the one file it is given (no playlist that names other files
or addresses), it never sees a name that it could take for an option or a protocol, and it never runs without a limit.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ffmpeg
import imageio_ffmpeg

from autorecap.base.text import printable

ONE_FILE = {
    "format_whitelist": "aac,aiff,amr,asf,avi,flac,flv,matroska,mov,mp3,mpegts,ogg,wav,w64",
    "protocol_whitelist": "file",
}
"""Formats that are one file. ffmpeg knows more; some are lists of other files (hls, concat), some read any text."""

_DURATION = re.compile(r"^\s*Duration: (\d+):(\d\d):(\d\d)\.(\d\d)", re.MULTILINE)
_AUDIO = re.compile(r"^\s*Stream #0:\d+.*: Audio:", re.MULTILINE)
TRUNCATED = re.compile(r"partial file|ended prematurely|Truncat", re.IGNORECASE)
"""What the log says of a file that ends before its header says so."""
_OVERHANG_MS = 500
"""How much is decoded beyond the end of a span and cut off by sample index: ffmpeg's -t is exact to a codec frame."""
_LEAD_MS = 1_000
"""How much is decoded, at least, ahead of a span and cut off: a decoder needs a while to find its state after a seek.
Of m4a it takes a frame, of Opus 80 ms, of mp3 at 22 kHz, whose frames borrow bits of earlier ones, more than 300."""
READ_BEFORE_MS = _LEAD_MS + 1_000 + 500
READ_AFTER_MS = _OVERHANG_MS + 500
"""How far around a span `decode` reads at most: the lead begins at a whole second, packets do not end at one."""
_FRAME_PIXELS = 384
"""Longest side of a picture: what captioners of pictures look at, and about 20 kB as JPEG."""
_QUALITY = {"q:v": 3}  # of 2 (best) to 31
_NO_SUCH_STREAM = "matches no streams"


class MediaError(Exception):
    """ffmpeg cannot read or decode a file. `timeout`: because it took too long."""

    def __init__(self, message: str, *, timeout: bool = False) -> None:
        super().__init__(message)
        self.timeout = timeout


@dataclass(frozen=True)
class Header:
    """What the header of a media file states."""

    duration_ms: int | None
    has_audio: bool


@cache
def ffmpeg_exe() -> str:
    """Return the ffmpeg on PATH, else the one of the package imageio-ffmpeg. Raises RuntimeError."""
    return shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def read_header(path: str, timeout_s: float) -> Header:
    """Read duration and presence of audio, without decoding. Raises MediaError, and OSError where the file is gone."""
    # No output, which ffmpeg-python cannot say: ffmpeg prints what it sees and ends with an error, so the text decides.
    arguments = [ffmpeg_exe(), "-hide_banner", "-nostdin"]
    for option, value in ONE_FILE.items():
        arguments += [f"-{option}", value]
    _, log = _run([*arguments, "-i", f"file:{path}"], timeout_s)
    if "Input #0" not in log:
        check_still_there(path)
        raise MediaError(last_words(log, path))
    duration = _DURATION.search(log)
    duration_ms = None
    if duration:
        hours, minutes, seconds, hundredths = map(int, duration.groups())
        duration_ms = ((hours * 60 + minutes) * 60 + seconds) * 1000 + hundredths * 10
    return Header(duration_ms, bool(_AUDIO.search(log)))


def decode(path: str, start_ms: int, end_ms: int, sample_rate_hz: int, timeout_s: float) -> tuple[bytes, bool]:
    """Decode the first audio stream of [start_ms, end_ms) to mono 16-bit PCM; also say whether the file is cut short.

    Sample 0 lies at `start_ms` of the file's own clock. Fewer samples come where the audio ends before `end_ms`. A span
    is the same samples whether it is read alone or out of a longer one. (Not where the codec invents them: the noise
    bands of AAC are random from wherever decoding began. Nor in FLV, whose clock of milliseconds shifts them.)

    Raises MediaError when there is no sample at all because the file cannot be decoded, OSError where it is gone.
    """
    # A whole second is a whole number of samples at every rate: the resampler meets the same phase in every read.
    from_ms = max(0, start_ms - _LEAD_MS) // 1000 * 1000
    source = ffmpeg.input(
        f"file:{path}",
        **ONE_FILE,
        ss=f"{from_ms / 1000:.3f}",
        t=f"{(end_ms - from_ms + _OVERHANG_MS) / 1000:.3f}",
    )
    # first_pts=0 keeps the clock where the audio stream begins later than the picture.
    samples = source["a:0"].filter("aresample", sample_rate_hz, first_pts=0)
    command = samples.output("-", format="s16le", acodec="pcm_s16le", ac=1, threads=1)
    pcm, log = _run(arguments_of(command.global_args("-loglevel", "warning")), timeout_s)
    truncated = bool(TRUNCATED.search(log))
    if not pcm:
        check_still_there(path)
        if log and not truncated and start_ms == 0:
            raise MediaError(last_words(log, path))
    first = round((start_ms - from_ms) * sample_rate_hz / 1000)
    num_samples = round((end_ms - start_ms) * sample_rate_hz / 1000)
    return pcm[2 * first : 2 * (first + num_samples)], truncated


def frames(path: str, times_ms: Sequence[int], timeout_s: float) -> list[bytes | None]:
    """Return the picture shown at each time as a small JPEG; None where the file shows none, or it cannot be decoded.

    The cover picture of a sound file does not count. Raises MediaError where it takes too long.
    """
    deadline = time.monotonic() + timeout_s
    out: list[bytes | None] = []
    for at_ms in times_ms:
        source = ffmpeg.input(f"file:{path}", **ONE_FILE, ss=f"{at_ms / 1000:.3f}")
        side = f"min({_FRAME_PIXELS},{{}})"
        small = source["V:0"].filter(
            "scale", side.format("iw"), side.format("ih"), force_original_aspect_ratio="decrease"
        )
        command = small.output(
            "-", format="mjpeg", vcodec="mjpeg", pix_fmt="yuvj420p", vframes=1, threads=1, **_QUALITY
        )
        picture, log = _run(arguments_of(command.global_args("-loglevel", "error")), deadline - time.monotonic())
        if _NO_SUCH_STREAM in log:
            break
        out.append(picture or None)
    return out + [None] * (len(times_ms) - len(out))


def arguments_of(command: ffmpeg.nodes.OutputStream) -> list[str]:
    """Return the command as a process is started with it; it does not read from the terminal."""
    arguments: list[str] = ffmpeg.compile(command.global_args("-nostdin"), cmd=ffmpeg_exe())
    return arguments


def _run(arguments: list[str], timeout_s: float) -> tuple[bytes, str]:
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=max(timeout_s, 0.1))
    except subprocess.TimeoutExpired:
        raise MediaError(f"ffmpeg took longer than {timeout_s:.0f} s", timeout=True) from None
    except OSError as error:  # an error of starting ffmpeg must not look like one of the media file
        raise RuntimeError(f"{arguments[0]} cannot be started: {error}") from error
    return done.stdout, done.stderr.decode("utf-8", "replace")


def check_still_there(path: str) -> None:
    """Raise OSError where the file cannot be opened any more: then the words of ffmpeg mean nothing."""
    with Path(path).open("rb"):
        pass


def last_words(log: str, path: str) -> str:
    """Return the last line of ffmpeg's log, which says what is wrong, without its prefixes and the path."""
    lines = [re.sub(r"^\[[^\]]*\] |Error opening input files: ", "", line) for line in log.splitlines()]
    last = next((line for line in reversed(lines) if line.strip()), "no message")
    return "ffmpeg: " + printable(last.replace(f"file:{path}", "the file"), 200)
