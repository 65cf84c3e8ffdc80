"""Corpus of the demo: small synthesised videos in a folder such as yt-dlp writes, in every transcript format, some of
them defective.
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autorecap.demo.sounds import MUSIC, SPEECH, Wave, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.demo.transcripts import FORMATS, Line, collapsed_json3
from autorecap.stages.media_files.ffmpeg import ffmpeg_exe

SILENCE = "silence"
_WORDS = [
    "so", "today", "we", "are", "going", "to", "look", "at", "how", "this", "works", "and", "what", "you", "can",
    "do", "with", "it", "before", "we", "go", "outside", "again", "because", "the", "weather", "is", "about", "to",
    "change", "and", "there", "is", "a", "lot", "left", "to", "see", "around", "here", "if", "you", "stay", "with",
    "me", "for", "a", "while",
]  # fmt: skip
_WORDS_PER_S = 2.5
_LINE_MS = 2_800

_AUDIO = {
    "webm": ["-c:a", "libopus", "-b:a", "64k"],
    "mp4": ["-c:a", "aac", "-b:a", "96k"],
    "m4a": ["-c:a", "aac", "-b:a", "96k"],
    "ogg": ["-c:a", "libvorbis", "-q:a", "4"],
}
_PICTURE = {"mp4": ["-c:v", "mpeg4"], "webm": ["-c:v", "libvpx", "-b:v", "50k"]}


@dataclass(frozen=True)
class Part:
    """One sound for some seconds."""

    kind: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class DemoVideo:
    """One video of the corpus: its sounds, and the files beside it."""

    name: str
    parts: tuple[Part, ...]
    container: str
    title: str = ""
    transcript: str = ""  # the ending of its file, one of FORMATS; "": none
    picture: bool = False
    transcribe_music: bool = True
    collapsed: bool = False
    spoil: bytes = b""  # written in place of the media

    @property
    def seconds(self) -> float:
        return sum(part.seconds for part in self.parts)

    @property
    def lines(self) -> list[Line]:
        """The lines of its transcript: the speech, and [Music] if the music is transcribed."""
        lines: list[Line] = []
        start_ms = 0
        for part in self.parts:
            end_ms = start_ms + round(part.seconds * 1000)
            if part.kind in SPEECH:
                lines += _spoken(start_ms, end_ms)
            elif part.kind in MUSIC and self.transcribe_music:
                lines.append(Line(start_ms, end_ms, "[Music]"))
            start_ms = end_ms
        return lines

    @property
    def gaps_ms(self) -> list[tuple[int, int]]:
        """The spans of its timeline without transcript."""
        gaps: list[tuple[int, int]] = []
        start_ms = 0
        for part in self.parts:
            end_ms = start_ms + round(part.seconds * 1000)
            if part.kind not in SPEECH and not (part.kind in MUSIC and self.transcribe_music):
                if gaps and gaps[-1][1] == start_ms:
                    gaps[-1] = (gaps[-1][0], end_ms)
                else:
                    gaps.append((start_ms, end_ms))
            start_ms = end_ms
        return gaps


def _parts(text: str) -> tuple[Part, ...]:
    """Read parts as in 'rain 12 speech_man 6': sounds and their seconds."""
    words = text.split()
    return tuple(Part(kind, float(seconds)) for kind, seconds in zip(words[::2], words[1::2], strict=True))


def _video(name: str, container: str, transcript: str, parts: str, title: str = "", **more: object) -> DemoVideo:
    return DemoVideo(
        name=name,
        container=container,
        transcript=transcript,
        parts=_parts(parts),
        title=title,
        **more,  # type: ignore[arg-type]
    )


CORPUS = (
    _video("rainOnRoof1", "webm", "en.json3", "rain 12 speech_man 6 wind 8", "Rain on the roof, and a talk about it"),
    _video("backyardDog", "mp4", "en.vtt", "dog 7 speech_woman 8 birds 6", "My dog in the backyard", picture=True),
    _video("oldEngine_7", "ogg", "en.srt", "speech_man 5 engine 24 speech_man 4", "Starting the old engine"),
    _video("seaAndSand_", "webm", "en.srv3", "waves 11 speech_woman 7 footsteps 6", "A walk at the sea", picture=True),
    _video("nightGarden", "m4a", "en.srv1", "crickets 9 speech_man 4 wind 9", "Night in the garden"),
    _video("clockmaker1", "ogg", "en.ttml", "clock 9 speech_man 8 bell 6", "The clockmaker's workshop"),
    _video("bellTower_1", "mp4", "en.json", "bell 8 speech_woman 6 birds 9", "Inside the bell tower"),
    _video("sirenStreet", "webm", "en-orig.vtt", "siren 7 speech_man 9 rain 7", "Emergency on our street"),
    _video("-dashFirst-", "m4a", "en.json3", "birds 12 speech_woman 5", "An id that looks like an option"),
    _video("my.video 0", "webm", "en.vtt", "wind 6 speech_man 5 dog 5", "A name that is not an id"),
    _video("concertHall", "ogg", "en.srt", "speech_man 5 music 18 speech_man 4", "A concert", transcribe_music=False),
    _video("radioJingle", "webm", "en.json3", "music 8 speech_woman 6 rain 10", "Radio, then rain"),
    _video("talkingOnly", "mp4", "en.srt", "speech_man 16", "A lecture"),
    _video("unsubtitled", "ogg", "", "speech_woman 5 waves 10", "Nobody wrote subtitles for this"),
    _video("collapsed_1", "webm", "en.json3", "speech_man 10 rain 4 speech_woman 8", "A broken track", collapsed=True),
    _video("deutsch_Reg", "m4a", "de.vtt", "speech_man 5 rain 9", "Regen"),
    _video("quietCellar", "ogg", "en.vtt", "speech_man 5 silence 12", "A quiet cellar"),
    _video("corruptFile", "mp4", "en.json3", "speech_man 5 rain 9", "Half a file", spoil=b"\0 no video" * 400),
)  # fmt: skip


def synthesise_corpus(folder: Path, videos: Sequence[DemoVideo] = CORPUS) -> None:
    """Write the videos and the files beside them into `folder`. The same ffmpeg gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, video in enumerate(videos):
        media = folder / f"{video.name}.{video.container}"
        if video.spoil:
            media.write_bytes(video.spoil)
        else:
            encode(soundtrack(video, seed=i), media, picture=video.picture)
        if video.transcript:
            write = collapsed_json3 if video.collapsed else FORMATS.get(video.transcript, FORMATS["en.vtt"])
            (folder / f"{video.name}.{video.transcript}").write_text(write(video.lines), encoding="utf-8")
        if video.title:
            (folder / f"{video.name}.info.json").write_text(json.dumps(_info(video), indent=1), encoding="utf-8")


def soundtrack(video: DemoVideo, seed: int) -> Wave:
    """Return the parts of a video one after the other, at `SAMPLE_RATE_HZ`."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            np.zeros(round(part.seconds * SAMPLE_RATE_HZ), np.float32)
            if part.kind == SILENCE
            else 0.6 * synthesise(part.kind, part.seconds, rng)
            for part in video.parts
        ]
    )


def encode(samples: Wave, media: Path, *, picture: bool = False) -> None:
    """Write the samples into the container that the file's ending names. picture: add a small moving picture"""
    container = media.suffix.removeprefix(".")
    command = [ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y"]
    command += ["-f", "f32le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-i", "-"]
    if picture:
        seconds = len(samples) / SAMPLE_RATE_HZ
        command += ["-f", "lavfi", "-i", f"testsrc=size=128x96:rate=5:duration={seconds:.3f}", *_PICTURE[container]]
    command += [*_AUDIO[container], "-ar", "48000", "-flags", "+bitexact", "-fflags", "+bitexact", f"file:{media}"]
    subprocess.run(command, input=samples.tobytes(), check=True)


def _info(video: DemoVideo) -> dict[str, object]:
    language, _, extension = video.transcript.partition(".")
    captions = {language: [{"ext": extension}]} if language else {}
    automatic = extension in ("json3", "srv3") or language == "en-orig"
    return {
        "_type": "video",
        "id": video.name,
        "title": video.title,
        "description": "",
        "duration": int(video.seconds),
        "live_status": "not_live",
        "subtitles": {} if automatic else captions,
        "automatic_captions": captions if automatic else {},
    }


def _spoken(start_ms: int, end_ms: int) -> list[Line]:
    """Return lines of about 2.8 s that fill the span."""
    lines = []
    word = start_ms // 1000
    while start_ms < end_ms:
        until_ms = end_ms if end_ms - start_ms < 1.5 * _LINE_MS else start_ms + _LINE_MS
        count = max(2, round((until_ms - start_ms) / 1000 * _WORDS_PER_S))
        text = " ".join(_WORDS[(word + i) % len(_WORDS)] for i in range(count))
        lines.append(Line(start_ms, until_ms, text))
        word += count
        start_ms = until_ms
    return lines
