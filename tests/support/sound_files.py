"""Files of sound whose samples say where they stand, lists of them, and noise in any container."""

import subprocess
from pathlib import Path

import numpy as np
import soundfile

from autorecap.stages.media_files.ffmpeg import ffmpeg_exe

RATE = 8_000  # of `ramp`


def ramp(path: Path, seconds: float, channels: int = 1) -> Path:
    """Samples whose value says where they stand: second s holds s / 100."""
    values = np.arange(round(seconds * RATE)) / RATE / 100
    soundfile.write(path, np.stack([values] * channels, axis=1), RATE, subtype="PCM_24")
    return path


def list_of_three(folder: Path) -> Path:
    """Three files, 2, 5 and 30 s long, the last with two captions. Returns the list."""
    for name, seconds in (("a", 2), ("b", 5), ("c", 30)):
        ramp(folder / f"{name}.wav", seconds)
    text = "file_name,caption,title\na.wav,Rain,Roof\nb.wav,Wind,\nc.wav,A bell,Tower\nc.wav,A bell rings,\n"
    (folder / "mine.csv").write_text(text)
    return folder / "mine.csv"


def make(path: Path, *options: str, seconds: float = 3, source: str = "anoisesrc=c=pink:r=8000") -> Path:
    """A file of noise, by ffmpeg's own generator."""
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-t", str(seconds), "-i", source, *options]
    subprocess.run([*command, f"file:{path}"], check=True)
    return path
