"""Where a video comes from follows from two columns of the plan, whatever travels or is stored beside them."""

import pytest

from autorecap.stages.origin import AudioFrom, ClipsFrom, Origin, TranscriptFrom
from autorecap.stages.records import VIDEO_SCHEMA, Clip, Video, from_table, to_table
from autorecap.stages.youtube.ids import watch_url

ONLINE = watch_url("dQw4w9WgXcQ")
ORIGINS = [
    ("/videos/rain.mp4", False, Origin(TranscriptFrom.FILES, AudioFrom.FILE, ClipsFrom.GAPS)),
    ("/sets/1.flac", True, Origin(TranscriptFrom.NOBODY, AudioFrom.FILE, ClipsFrom.SOURCE)),
    ("s3://bucket/rain.mp4", False, Origin(TranscriptFrom.FILES, AudioFrom.FILE, ClipsFrom.GAPS)),
    (f"/mirror/{ONLINE}", False, Origin(TranscriptFrom.FILES, AudioFrom.FILE, ClipsFrom.GAPS)),
    (ONLINE, False, Origin(TranscriptFrom.YOUTUBE, AudioFrom.YOUTUBE, ClipsFrom.GAPS)),
    (ONLINE, True, Origin(TranscriptFrom.NOBODY, AudioFrom.YOUTUBE, ClipsFrom.SOURCE)),
]


@pytest.mark.parametrize(("media", "given", "origin"), ORIGINS)
def test_the_origin_follows_from_the_address_and_from_who_brings_the_clips(
    media: str, given: bool, origin: Origin
) -> None:
    video = Video(row=0, video_id="a", media=media, given=given, clips=(Clip(start_ms=0, end_ms=1000),))
    assert video.origin == origin
    assert [each.origin for each in from_table(to_table([video]))] == [origin]


def test_the_origin_is_no_column_and_a_plan_without_given_clips_has_one() -> None:
    assert "origin" not in VIDEO_SCHEMA.names
    older = to_table([Video(row=0, video_id="a", media=ONLINE)]).drop_columns(["given"])
    assert from_table(older)[0].origin.clips is ClipsFrom.GAPS
