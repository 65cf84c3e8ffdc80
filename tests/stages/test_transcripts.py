"""The transcripts stage: which file is read, what info.json adds, and how a video ends without a transcript.

Also proves stages/transcript_files/info.py and stages/transcript_files/config.py.
"""

import json
from pathlib import Path

import fsspec
import pytest

from autorecap.stages.records import Video
from autorecap.stages.stage import run_stages
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcripts import Transcripts

WORDS = '[{{"text": "{}", "start": 1.0, "duration": 2.0}}]'

ROLLING = '<timedtext format="3"><body><p t="0" d="2000"><s ac="9">a</s><s t="9"> b</s></p></body></timedtext>'


def listing(*languages, url="https://x/api/timedtext?v=a&kind=asr&lang=en&fmt=vtt"):
    return {language: [{"ext": "vtt", "url": url}] for language in languages}


@pytest.fixture
def read(tmp_path):
    """A function that runs the stage over one video with these files beside it."""

    def run(files, stem="vid", duration_ms=None, **config):
        for name, text in files.items():
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        video = Video(
            row=0,
            video_id="vid",
            original_name=stem,
            media=str(tmp_path / f"{stem}.mp4"),
            info=str(tmp_path / f"{stem}.info.json") if f"{stem}.info.json" in files else "",
            sidecars=tuple(str(tmp_path / name) for name in files if not name.endswith(".info.json")),
            duration_ms=duration_ms,
        )
        return run_stages([Transcripts(TranscriptsConfig(**config))], [video])[0]

    return run


def test_a_chat_log_is_no_transcript(read):
    assert read({"vid.live_chat.json": "{}"}).reason == "no_transcript"


def test_the_first_track_that_can_be_read_and_has_text_is_taken(read):
    files = {"vid.en.json3": b"", "vid.en.vtt": "WEBVTT\n", "vid.en.srt": "1\n00:00:01,000 --> 00:00:02,000\nhi\n"}
    video = read(files)
    assert ([cue.text for cue in video.cues], video.num_cues, video.is_ok) == (["hi"], 1, True)


def test_a_broken_manual_track_gives_way_to_the_automatic_one(read):
    info = json.dumps({"subtitles": listing("en-US"), "automatic_captions": listing("en")})
    video = read({"vid.info.json": info, "vid.en-US.json": "[{", "vid.en.json": WORDS.format("auto")})
    assert (video.cues[0].text, video.transcript_kind, video.transcript_language) == ("auto", "auto", "en")


def test_the_kind_comes_from_the_content_where_info_json_does_not_tell(read):
    assert read({"vid.en.srv3": ROLLING}).transcript_kind == "auto"
    assert read({"vid.en.json": WORDS.format("a")}).transcript_kind == "unknown"
    manual = json.dumps({"subtitles": listing("en")})
    assert read({"vid.info.json": manual, "vid.en.json": WORDS.format("a")}).transcript_kind == "manual"


def test_each_way_to_end_without_a_transcript(read):
    assert read({}).reason == "no_transcript"
    video = read({"vid.de.vtt": "WEBVTT\n"})
    assert (video.reason, video.detail) == ("no_transcript_in_language", "found de; accepted en")
    video = read({"vid.en.json3": b"", "vid.en.vtt": "<html>"})
    assert video.reason == "transcript_unreadable"
    assert video.detail.startswith("vid.en.json3: an empty file")
    assert "vid.en.vtt: an HTML page" in video.detail
    assert read({"vid.en.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n&nbsp;\n"}).reason == "empty_transcript"


def test_a_transcript_that_has_gone_is_tried_again_later(read, tmp_path):
    video = Video(row=0, video_id="v", media="v.mp4", sidecars=(str(tmp_path / "v.en.vtt"),))
    done = run_stages([Transcripts(TranscriptsConfig())], [video])[0]
    assert (done.status, done.reason) == ("retry", "transcript_missing")


def test_an_info_json_that_cannot_be_opened_is_tried_again_later_and_not_taken_for_none(tmp_path):
    (tmp_path / "v.en.json").write_text(WORDS.format("a"))
    (tmp_path / "v.info.json").symlink_to("v.info.json")
    info, beside = str(tmp_path / "v.info.json"), (str(tmp_path / "v.en.json"),)
    video = Video(row=0, video_id="v", media="v.mp4", info=info, sidecars=beside)
    (done,) = run_stages([Transcripts(TranscriptsConfig())], [video])
    assert (done.status, done.reason) == ("retry", "transcript_missing")
    assert done.detail.startswith("v.info.json: ")


def test_files_behind_urls_are_read():
    files = fsspec.filesystem("memory")
    files.pipe("/choice/v.en.json", WORDS.format("from afar").encode())
    files.pipe("/choice/v.info.json", b'{"title": "t", "duration": 12}')
    video = Video(
        row=0,
        video_id="v",
        media="memory://choice/v.mp4",
        info="memory://choice/v.info.json",
        sidecars=("memory://choice/v.en.json",),
    )
    done = run_stages([Transcripts(TranscriptsConfig())], [video])[0]
    assert (done.cues[0].text, done.title, done.duration_ms) == ("from afar", "t", 12_000)
    assert done.bytes_read > 60


def test_info_json_gives_title_and_duration_but_an_exact_duration_stays(read):
    info = json.dumps({"title": "A \u0000 title\nof two lines", "duration": 47})
    files = {"vid.info.json": info, "vid.en.json": WORDS.format("a")}
    video = read(files)
    assert (video.title, video.duration_ms) == ("A   title of two lines", 47_000)
    assert read(files, duration_ms=47_405).duration_ms == 47_405


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"title": ["a"], "description": {"a": 1}, "duration": "long", "subtitles": [], "automatic_captions": 3}',
        b'{"duration": true, "subtitles": {"en": null}, "automatic_captions": {"en": [null, 3, {"url": 4}]}}',
        b'{"duration": NaN}',
        b'{"duration": -5}',
        b'{"duration": 1e400}',
        b'{"duration": 1e999999999}',
        b'{"duration": 999999999}',
        json.dumps({"title": "\ud800" + "x" * 10_000_000}).encode(),
    ],
)
def test_a_broken_info_json_costs_nothing_but_itself(read, info):
    video = read({"vid.info.json": info, "vid.en.json": WORDS.format("a")})
    assert (video.is_ok, video.duration_ms) == (True, None)
    assert len(video.title.encode()) <= 500


@pytest.mark.parametrize("languages", [(), ("",), ["en"], "en", (1,)])
def test_languages_that_are_none_are_refused(languages):
    with pytest.raises(ValueError, match=r"transcripts\.languages"):
        TranscriptsConfig(languages=languages)


def test_the_videos_that_yt_dlp_left(read, shared):
    data = shared / "data"
    for truth in json.loads((data / "videos-truth.json").read_text()):
        stem = truth["video_id"]
        names = [f"{stem}.info.json", Path(truth["transcript"] or "").name]
        video = read({name: (data / "videos" / name).read_bytes() for name in names if name}, stem=stem)
        assert video.reason == ("" if truth["transcript"] else "no_transcript")
        assert video.title == f"fixture {stem}"
