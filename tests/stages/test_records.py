"""The record: it crosses the Ray boundary unchanged, and ids are safe for keys and file names."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import Clip, Cue, Verdict, Video, from_table, safe_video_id, to_table

VIDEO = Video(
    row=3,
    video_id="a",
    title="Ein Bär 🐻",
    sidecars=("a.en.vtt",),
    duration_ms=12_345,
    cues=(Cue(start_ms=1, duration_ms=None, text="hm", word_starts_ms=(1, 5)),),
    clips=(
        Clip(start_ms=0, end_ms=10, audio=b"\x00\x01", rms_dbfs=-1.5, peak_dbfs=-0.5, verdict=Verdict.KEPT),
        Clip(start_ms=10, end_ms=20, verdict=Verdict.KEYWORD, keyword="talk"),
    ),
    seconds={"media": 0.5},
)


def test_videos_cross_the_ray_boundary_unchanged():
    assert from_table(to_table([VIDEO, Video(row=4, video_id="b")])) == [VIDEO, Video(row=4, video_id="b")]


def test_no_videos_make_an_empty_table_with_the_same_schema():
    assert to_table([]).schema == to_table([VIDEO]).schema
    assert from_table(to_table([])) == []


def test_a_plan_with_few_columns_becomes_videos():
    table = pa.table({"row": [1], "video_id": ["x"], "media": ["/x.ogg"], "sidecars": [["/x.en.vtt"]], "attempt": [2]})
    assert from_table(table) == [Video(row=1, video_id="x", media="/x.ogg", sidecars=("/x.en.vtt",), attempt=2)]


def test_an_ended_video_keeps_its_clips_but_no_audio():
    ended = VIDEO.ended(Reason.NO_GAP, "why")
    assert (ended.status, ended.reason, ended.detail) == (Status.REJECTED, "no_gap", "why")
    assert [clip.audio for clip in ended.clips] == [None, None]


def test_levels_come_back_as_they_were_rounded():
    clip = Clip(start_ms=0, end_ms=1, rms_dbfs=-23.45, peak_dbfs=-0.1, clap_score=0.123)
    video = Video(row=0, video_id="a", clips=(clip,))
    assert from_table(to_table([video])) == [video]


def test_the_detail_of_an_end_is_made_fit_to_be_shown_and_stored():
    ended = VIDEO.ended(Reason.NO_GAP, "caf\udce9\x1b[31m\nred" + "x" * 9_000)
    assert ended.detail.startswith("caf [31m redx") and len(ended.detail) == 500
    assert from_table(to_table([ended])) == [ended]


@given(st.text(min_size=1), st.sampled_from([8, 15]))
def test_every_name_becomes_an_id_that_can_be_a_key(name, num_hex):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", safe_video_id(name, num_hex))


def test_an_id_of_the_site_stays_and_other_names_stay_apart():
    assert safe_video_id("-dQw4w9WgXc") == "-dQw4w9WgXc"
    assert re.fullmatch(r"my-video-0-[0-9a-f]{8}", safe_video_id("my.video 0"))
    assert safe_video_id("my.video 0") != safe_video_id("my.video-0")
    assert safe_video_id("caf\udce9") != safe_video_id("caf\udce8")
    assert ".." not in safe_video_id("../x") and "/" not in safe_video_id("../x")
