"""Of a video's formats the cheapest audio that is good enough is taken."""

import pytest

from autorecap.stages.reasons import Reason
from autorecap.stages.youtube.formats import choose
from autorecap.stages.youtube.problem import Problem
from autorecap.stages.youtube.session import YOUTUBE


def entry(itag: str, kbps: float, rate: int, **more) -> dict:
    known = {"format_id": itag, "tbr": kbps, "asr": rate, "vcodec": "none", "acodec": "opus", "ext": "webm"}
    return {**known, "protocol": "https", "url": f"https://r1.googlevideo.com/{itag}", "filesize": 1_000, **more}


OFFERED = [
    entry("139", 49, 22_050, acodec="mp4a.40.5", ext="m4a"),
    entry("249", 53, 48_000),
    entry("250", 70, 48_000),
    entry("140", 130, 44_100, acodec="mp4a.40.2", ext="m4a"),
    entry("251", 140, 48_000),
    entry("18", 500, 44_100, vcodec="avc1.42001E", acodec="mp4a.40.2", ext="mp4", filesize=9_000),
]


@pytest.mark.parametrize(
    ("min_kbps", "rate", "itag"),
    [(64, 32_000, "250"), (1, 32_000, "249"), (1, 16_000, "139"), (100, 32_000, "140"), (100, 48_000, "251")],
)
def test_the_cheapest_format_with_enough_bits_and_the_stored_sample_rate_is_taken(min_kbps, rate, itag):
    assert choose({"formats": OFFERED}, min_kbps, rate, YOUTUBE).itag == itag


def test_the_best_is_taken_where_none_is_good_enough():
    assert choose({"formats": OFFERED}, 1_000, 48_000, YOUTUBE).itag == "251"
    assert choose({"formats": OFFERED[:1]}, 64, 32_000, YOUTUBE).itag == "139"


def test_a_file_of_picture_and_sound_has_to_do_where_there_is_no_other():
    assert choose({"formats": OFFERED[-1:]}, 64, 32_000, YOUTUBE).itag == "18"


def test_the_original_language_is_taken_and_no_version_that_was_made_louder():
    dubbed = entry("250-1", 60, 48_000, language="de", language_preference=-1)
    original = entry("251", 140, 48_000, language="en", language_preference=10)
    louder = entry("250-drc", 65, 48_000, language_preference=10)
    assert choose({"formats": [dubbed, louder, original]}, 1, 32_000, YOUTUBE).itag == "251"


@pytest.mark.parametrize(
    ("formats", "reason"),
    [
        ([], Reason.NO_AUDIO),
        ([entry("160", 100, 0, acodec="none", vcodec="avc1")], Reason.NO_AUDIO),
        ([entry("250", 70, 48_000, protocol="m3u8_native")], Reason.BAD_ANSWER),
        ([entry("250", 70, 48_000, url="http://10.0.0.1/x")], Reason.BAD_ANSWER),
        ([None, 7, {"url": 5}], Reason.NO_AUDIO),
    ],
)
def test_where_nothing_can_be_fetched_the_reason_says_whether_there_is_audio_at_all(formats, reason):
    with pytest.raises(Problem) as raised:
        choose({"formats": formats}, 64, 32_000, YOUTUBE)
    assert raised.value.reason is reason
