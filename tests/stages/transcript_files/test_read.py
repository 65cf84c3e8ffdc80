"""Every transcript format: what is read, what is refused, and that nothing but TranscriptError comes out.

The formats are those of stages/transcript_files/api_json.py, stages/transcript_files/timedtext.py,
stages/transcript_files/ttml.py and stages/transcript_files/vtt_srt.py. They read by stages/transcript_files/rows.py and
stages/transcript_files/xml_stream.py, and return a stages/transcript_files/transcript.py.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.segments import find_gaps
from autorecap.stages.transcript_files import TranscriptError, read_transcript
from autorecap.stages.transcript_files.read import MAX_BYTES
from tests.support.examples import examples

JSON3 = json.dumps(
    {
        "wireMagic": "pb3",
        "events": [
            {"tStartMs": 0, "dDurationMs": 60_000, "id": 1, "wpWinPosId": 1, "wsWinStyleId": 1},
            {"dDurationMs": 2_000, "wWinId": 1, "segs": [{"utf8": "rain"}, {"utf8": " falls", "tOffsetMs": 400}]},
            {"tStartMs": 1_990, "dDurationMs": 10, "wWinId": 1, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        ],
    }
).encode()
SRV1 = (
    b'<?xml version="1.0" encoding="utf-8" ?><transcript><text start="1.54" dur="4.16">it&amp;#39;s</text></transcript>'
)
SRV2 = b'<timedtext><window t="0" id="1"/><text t="1540" d="4160" w="1">it is</text></timedtext>'
SRV3 = (
    b'<timedtext format="3"><head><ws id="0"/></head><body><w t="0" id="1"/>'
    b'<p t="1540" d="4160" w="1"><s ac="0">it</s><s t="320"> is</s></p><p t="5690" w="1" a="1">\n</p>'
    b"</body></timedtext>"
)
TTML = (
    b'<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="00:00:01.540" end="00:00:05.700">it<br/>is</p>'
    b"</div></body></tt>"
)
VTT = b"WEBVTT\nKind: captions\nLanguage: en\n\n00:01.540 --> 00:05.700 align:start position:0%\nit is\n"
SRT = b"1\r\n00:00:01,540 --> 00:00:05,700\r\nit is\r\n"
API = b'[{"text": "it is", "start": 1.54, "duration": 4.16}]'
EXAMPLES = {"json3": JSON3, "srv1": SRV1, "srv2": SRV2, "srv3": SRV3, "ttml": TTML, "vtt": VTT, "srt": SRT, "api": API}


def cues_of(data: bytes | str):
    return read_transcript(data.encode() if isinstance(data, str) else data, "video.en.x").cues


def spans_of(data: bytes | str):
    return [(cue.start_ms, cue.duration_ms, cue.text) for cue in cues_of(data)]


@pytest.mark.parametrize(("name", "data"), EXAMPLES.items())
@pytest.mark.parametrize("extension", ["xml", "json", "vtt", "txt"])
def test_the_content_decides_on_the_format_whatever_the_name(name, data, extension):
    assert read_transcript(data, f"video.en.{extension}").format == name


@pytest.mark.parametrize("name", ["srv1", "srv2", "srv3", "ttml", "vtt", "srt", "api"])
def test_every_format_states_the_same_cue(name):
    first = cues_of(EXAMPLES[name])[0]
    assert (first.start_ms, first.duration_ms) == (1540, 4160)


def test_a_json3_window_event_is_no_cue_and_a_missing_start_is_zero():
    assert spans_of(JSON3) == [(0, 2000, "rain falls"), (1990, 10, "\n")]
    assert cues_of(JSON3)[0].word_starts_ms == (0, 400)


def test_srv3_word_times_count_from_their_row():
    assert cues_of(SRV3)[0].word_starts_ms == (1540, 1860)
    assert cues_of(SRV3)[1].duration_ms is None


def test_words_are_not_timed_where_one_segment_holds_a_sentence():
    data = '<timedtext format="3"><body><p t="0" d="5000"><s ac="0">it goes on and on</s></p></body></timedtext>'
    assert cues_of(data)[0].word_starts_ms == ()


def test_entities_of_a_file_are_resolved():
    assert spans_of(SRV1)[0][2] == "it's"


def test_vtt_rolls_two_lines_and_a_blank_first_line_does_not_end_a_cue():
    data = (
        "WEBVTT\nKind: captions\nStyle:\n::cue(c.colorCCCCCC) { color: rgb(204,204,204);\n }\n##\n\n"
        "00:00:00.160 --> 00:00:02.669 align:start position:0%\n \nso<00:00:00.840><c> it</c>\n\n"
        "00:00:02.669 --> 00:00:02.679 align:start position:0%\nso it\n \n\n"
        "00:00:02.679 --> 00:00:04.150 align:start position:0%\nso it\nrains<00:00:03.000><c> now</c>\n"
    )
    transcript = read_transcript(data.encode(), "video.en.vtt")
    assert [cue.text.strip() for cue in transcript.cues] == ["so it", "so it", "so it\nrains now"]
    assert [cue.word_starts_ms for cue in transcript.cues] == [(160, 840), (), (2679, 3000)]
    assert transcript.is_auto


def test_vtt_body_after_an_empty_line_still_belongs_to_its_cue():
    data = "WEBVTT\n\n00:01.000 --> 00:02.000\n\nit rains\n\nsecond\n00:03.000 --> 00:04.000\n\n\n"
    assert spans_of(data) == [(1000, 1000, "it rains"), (3000, 1000, "")]


def test_vtt_comments_and_styles_are_no_cues_even_with_a_time_in_them():
    comments = "NOTE\n00:01.000 --> 00:02.000\nold\n\nSTYLE\n::cue { a: b }\n\nNOTE x --> y\n\n"
    data = f"WEBVTT\n\n{comments}00:05.000 --> 00:06.000\nNOTE it\n"
    assert spans_of(data) == [(5000, 1000, "NOTE it")]


def test_srt_numbers_are_no_text_even_without_empty_lines():
    data = (
        "1\n00:00:01,000 --> 00:00:02,000\n2\n00:00:03,000 --> 00:00:04,000\nwords\n"
        "3\n100:00:05.5 --> 100:00:06,25\nend"
    )
    assert spans_of(data) == [(1000, 1000, ""), (3000, 1000, "words"), (360_005_500, 750, "end")]


def test_ttml_reads_clock_offset_frame_and_tick_times():
    data = (
        '<tt:tt xmlns:tt="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" '
        'ttp:frameRate="25" ttp:tickRate="1000"><tt:body begin="10s"><tt:div>'
        '<tt:p begin="1.5s" dur="500ms">a</tt:p><tt:p begin="00:00:02:05" end="00:00:03:00"><tt:span>b</tt:span></tt:p>'
        '<tt:p begin="4000t" end="5000t">c</tt:p><tt:p begin="6s">d</tt:p></tt:div></tt:body></tt:tt>'
    )
    assert spans_of(data) == [(11_500, 500, "a"), (12_200, 800, "b"), (14_000, 1000, "c"), (16_000, None, "d")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", list(EXAMPLES))
def test_unicode_with_a_byte_order_mark_is_read(name, encoding):
    text = EXAMPLES[name].decode()
    assert spans_of(text.encode(encoding)) == spans_of(text)


@pytest.mark.parametrize("data", [b"", b" \r\n\t", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_an_error_that_names_the_missing_token_and_not_silence(data):
    with pytest.raises(TranscriptError, match=r"video\.en\.vtt: an empty file.*token"):
        read_transcript(data, "video.en.vtt")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "HTML"),
        (b"<html lang=en>429 Too Many Requests", "HTML"),
        (JSON3[:-20], "not well-formed JSON"),
        (SRV3[:-20], "not well-formed XML"),
        (b"\xe9t\xe9 --> ", "not utf-8"),
        (b"hello", "begins with 'hello'"),
        (b'{"error": {"code": 429}}', "JSON without events .its keys: error"),
        (b'{"events": {}}', "events is a dict"),
        (b'{"events": [1]}', "event 1 is a int"),
        (b'{"events": [{"segs": [3]}]}', "segment of event 1"),
        (b'{"events": [{"segs": "abc"}]}', "segs of event 1 is a str"),
        (b"[1]", "snippet 1 is"),
        (b"[" * 100_000, "nested"),
        (b"<transcript>" + b"<a>" * 100_000, "nested"),
        (b"<rss></rss>", "root <rss>"),
        (b"WEBVTT\n\n00:01.000 --> 00:\ntext\n", "no range of times"),
        (b"x" * (MAX_BYTES + 1), "more than 32 MB"),
        (b'<tt><body><p begin="soon">a</p></body></tt>', "begin of row 1 is 'soon'"),
        (b"<tt><body><p>a</p></body></tt>", "begin of row 1 is missing"),
        (b"<transcript><text dur='1'>a</text></transcript>", "start of row 1 is missing"),
    ],
)
def test_a_file_that_is_no_transcript_is_refused_with_what_was_found(data, found):
    with pytest.raises(TranscriptError, match=rf"^video\.en\.json3: .*{found}"):
        read_transcript(data, "video.en.json3")


def test_an_xml_bomb_is_refused():
    bomb = b'<!DOCTYPE t [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><transcript><text start="1">&b;</text></transcript>'
    with pytest.raises(TranscriptError, match="entity"):
        cues_of(bomb)


@pytest.mark.parametrize(
    "start", ["NaN", "Infinity", "1e30", "1e999999999", "true", '"soon"', "null", "[]", "9" * 3000]
)
def test_words_at_an_absurd_time_make_the_file_unreadable_since_they_could_be_anywhere(start):
    with pytest.raises(TranscriptError, match="start of snippet 1"):
        cues_of(f'[{{"text": "a", "start": {start}, "duration": 1}}]')


@pytest.mark.parametrize("duration", ["NaN", "-Infinity", "1e30", "true", '"long"', "null", "{}"])
def test_an_absurd_duration_counts_as_unknown(duration):
    assert spans_of(f'[{{"text": "a", "start": 1, "duration": {duration}}}]') == [(1000, None, "a")]


def test_a_transcript_without_cues_is_readable():
    for data in (b"WEBVTT\n", b"[]", b'{"events": []}', b'{"wireMagic": "pb3"}', b"<transcript/>", b"<tt><body/></tt>"):
        assert cues_of(data) == ()


def test_half_a_character_cannot_reach_the_dataset():
    cues_of(r'[{"text": "a\ud83d", "start": 1, "duration": 1}]')[0].text.encode()


def test_seconds_of_a_file_are_read_without_floats():
    assert spans_of(b'[{"text": "a", "start": 2.1, "duration": 1.2}]') == [(2100, 1200, "a")]


def test_a_placeholder_duration_in_a_rolling_track_ends_at_the_next_window_event():
    srv3 = (
        '<timedtext format="3"><body><p t="98550" d="3010" w="1" a="1">\n</p>'
        '<p t="98560" d="3000" w="1"><s ac="0">I cannot thank you enough for this.</s></p>'
        '<p t="106950" w="1" a="1">\n</p><p t="106960" d="3799" w="1"><s ac="0">Not at all.</s></p></body></timedtext>'
    )
    assert spans_of(srv3)[1][:2] == (98_560, 8_390)
    assert spans_of(srv3)[3][:2] == (106_960, 3_799)
    events = [
        {"tStartMs": 98_560, "dDurationMs": 3000, "wWinId": 1, "segs": [{"utf8": "\u3042\u308a\u304c" * 9}]},
        {"tStartMs": 106_950, "wWinId": 1, "aAppend": 1, "segs": [{"utf8": "\n"}]},
    ]
    assert spans_of(json.dumps({"events": events}))[0][:2] == (98_560, 8_390)


def test_three_seconds_that_hold_a_few_words_are_no_placeholder_outside_a_rolling_track():
    data = '[{"text": "so it is", "start": 1, "duration": 3.0}, {"text": "b", "start": 9, "duration": 1}]'
    assert spans_of(data)[0][1] == 3000
    assert spans_of(data.replace("so it is", "word " * 20))[0][1] == 8000


def test_a_row_lasts_at_least_until_its_last_word():
    segs = [{"utf8": "so"}, {"utf8": " late", "tOffsetMs": 5000}]
    events = [{"tStartMs": 1000, "dDurationMs": 2000, "segs": segs}, {"tStartMs": 8000, "segs": [{"utf8": "b"}]}]
    assert spans_of(json.dumps({"events": events}))[0][:2] == (1000, 7000)


def test_speech_recognition_is_told_from_the_content():
    is_auto = {name: read_transcript(data, name).is_auto for name, data in EXAMPLES.items()}
    assert [name for name, auto in is_auto.items() if auto] == ["json3", "srv3"]


def clock(ms: int, sign: str) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{sign}{ms % 1000:03d}"


def render(cues: list[tuple[int, int]]) -> dict[str, str]:
    """The same cues in every format."""
    text = "so it is"
    events = [{"tStartMs": s, "dDurationMs": d, "segs": [{"utf8": text}]} for s, d in cues]
    vtt = [f"{clock(s, '.')} --> {clock(s + d, '.')}\n{text}\n\n" for s, d in cues]
    srt = [f"{i}\n{clock(s, ',')} --> {clock(s + d, ',')}\n{text}\n\n" for i, (s, d) in enumerate(cues, 1)]
    ttml = [f'<p begin="{clock(s, ".")}" end="{clock(s + d, ".")}">{text}</p>' for s, d in cues]
    srv1 = [f'<text start="{s / 1000}" dur="{d / 1000}">{text}</text>' for s, d in cues]
    srv2 = [f'<text t="{s}" d="{d}">{text}</text>' for s, d in cues]
    srv3 = [f'<p t="{s}" d="{d}">{text}</p>' for s, d in cues]
    return {
        "json3": json.dumps({"events": events}),
        "api": json.dumps([{"text": text, "start": s / 1000, "duration": d / 1000} for s, d in cues]),
        "vtt": "WEBVTT\n\n" + "".join(vtt),
        "srt": "".join(srt),
        "ttml": f"<tt><body><div>{''.join(ttml)}</div></body></tt>",
        "srv1": f"<transcript>{''.join(srv1)}</transcript>",
        "srv2": f"<timedtext>{''.join(srv2)}</timedtext>",
        "srv3": f'<timedtext format="3"><body>{"".join(srv3)}</body></timedtext>',
    }


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 9_000)), min_size=1, max_size=12))
def test_the_same_cues_give_the_same_gaps_in_every_format(cues):
    gaps = {name: find_gaps(cues_of(data), 240_000) for name, data in render(cues).items()}
    assert all(found == gaps["json3"] for found in gaps.values()), gaps


@examples(200)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_transcript_error(data):
    read_or_refuse(data)


@examples(400)
@given(st.sampled_from(list(EXAMPLES)), st.data())
def test_damaged_transcripts_raise_nothing_but_transcript_error(name, draw):
    data = bytearray(EXAMPLES[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data)))
        until = at + draw.draw(st.integers(0, 8))
        data[at:until] = draw.draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"<p>", b"</p>", b"-->", b"\n\n"]))
        )
    read_or_refuse(bytes(data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["events", "segs", "utf8", "tStartMs", "dDurationMs", "tOffsetMs", "text", "start", "duration"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@examples(300)
@given(json_values)
def test_json_of_any_shape_raises_nothing_but_transcript_error(value):
    read_or_refuse(json.dumps(value).encode())
    read_or_refuse(json.dumps({"events": [value, {"segs": [value]}]}).encode())


def read_or_refuse(data: bytes) -> None:
    try:
        transcript = read_transcript(data, "video.en.vtt")
    except TranscriptError as error:
        assert str(error).startswith("video.en.vtt: ")
        return
    for cue in transcript.cues:
        cue.text.encode()
        assert isinstance(cue.start_ms, int)
        assert list(cue.word_starts_ms) == sorted(cue.word_starts_ms)
