"""The choice among the transcripts beside a video: the kind, the language and the format that come first."""

import json

from autorecap.stages.transcript_files.choice import by_preference, tracks_of
from autorecap.stages.transcript_files.info import Info, parse_info


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
