"""The transcripts stage: which file beside a video is read, what info.json adds, and how a video ends without one."""

import json
from pathlib import Path

import fsspec
import pytest

from autorecap.stages.records import Video
from autorecap.stages.stage import run_stages
from autorecap.stages.transcript_files.choice import by_preference, tracks_of
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.transcript_files.info import Info, parse_info
from autorecap.stages.transcripts import Transcripts

WORDS = '[{{"text": "{}", "start": 1.0, "duration": 2.0}}]'
ROLLING = '<timedtext format="3"><body><p t="0" d="2000"><s ac="9">a</s><s t="9"> b</s></p></body></timedtext>'


def preferred(names, info=None, languages=("en",), allow_translated=False, stem="vid"):
    found = by_preference(
        tracks_of([f"/videos/{name}" for name in names], stem, info or Info()),
        languages,
        allow_translated=allow_translated,
    )
    return [track.path.removeprefix("/videos/") for track in found]


def info_of(**fields):
    return parse_info(json.dumps(fields).encode())


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


def test_manual_english_comes_before_automatic_english():
    info = info_of(subtitles=listing("en-GB"), automatic_captions=listing("en", "en-orig"))
    assert preferred(["vid.en.vtt", "vid.en-orig.vtt", "vid.en-GB.vtt"], info) == [
        "vid.en-GB.vtt",
        "vid.en-orig.vtt",
        "vid.en.vtt",
    ]


def test_plain_english_comes_before_its_variants():
    names = ["vid.en-GB.vtt", "vid.en-nP7-2PuUl7o.vtt", "vid.en.vtt", "vid.en-US.vtt"]
    assert preferred(names) == ["vid.en.vtt", "vid.en-US.vtt", "vid.en-GB.vtt", "vid.en-nP7-2PuUl7o.vtt"]


def test_a_track_of_unknown_kind_comes_between_manual_and_automatic():
    info = info_of(subtitles=listing("en-US"), automatic_captions=listing("en"))
    assert preferred(["vid.en.vtt", "vid.en-GB.vtt", "vid.en-US.vtt"], info) == [
        "vid.en-US.vtt",
        "vid.en-GB.vtt",
        "vid.en.vtt",
    ]


def test_the_most_exact_format_of_a_track_comes_first():
    names = [f"vid.en.{e}" for e in ("srv2", "json", "srt", "ttml", "srv1", "vtt", "srv3", "json3", "xml")]
    assert preferred(names) == [*reversed(names[:-1]), "vid.en.xml"]


def test_other_languages_count_only_by_setting_and_in_its_order():
    names = ["vid.de.vtt", "vid.en.vtt", "vid.ja.vtt", "vid.eng.vtt"]
    assert preferred(names) == ["vid.en.vtt"]
    assert preferred(names, languages=("ja", "en")) == ["vid.ja.vtt", "vid.en.vtt"]


def test_machine_translated_english_counts_only_by_setting():
    translated = listing("en", url="https://x/api/timedtext?lang=ja&tlang=en&fmt=vtt")
    by_url = info_of(automatic_captions=translated)
    by_list = info_of(automatic_captions={"ja-orig": [{"ext": "vtt"}], "ja": [], "en": [{"ext": "vtt"}]})
    from_subtitles = info_of(automatic_captions={"en-ja": [{"ext": "vtt"}]})
    for info, name in ((by_url, "vid.en.vtt"), (by_list, "vid.en.vtt"), (from_subtitles, "vid.en-ja.vtt")):
        assert preferred([name], info) == []
        assert preferred([name], info, allow_translated=True) == [name]


def test_recognised_english_is_no_translation_and_neither_are_uploaded_subtitles():
    info = info_of(automatic_captions=listing("en-orig", "en", "ja"))
    assert preferred(["vid.en.vtt"], info) == ["vid.en.vtt"]
    info = info_of(subtitles=listing("en"), automatic_captions=listing("ja-orig", "en"))
    assert preferred(["vid.en.vtt"], info) == ["vid.en.vtt"]


def test_a_stem_with_dots_and_a_file_without_a_language():
    assert preferred(["a.de.b.en.vtt"], stem="a.de.b") == ["a.de.b.en.vtt"]
    assert preferred(["a.de.vtt"], stem="a.de") == ["a.de.vtt"]
    assert preferred(["a.vtt", "a.de.vtt"], stem="a") == ["a.vtt"]
    assert preferred(["other.de.vtt", "other.en.vtt"], stem="a") == ["other.en.vtt"]


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
