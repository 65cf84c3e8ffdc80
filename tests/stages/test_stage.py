"""The loop that runs stages over videos: what fails ends one video, or shows that the worker is sick."""

import pytest

from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import Video, from_table, to_table
from autorecap.stages.stage import SickWorker, run_stages


class Fragile:
    name = "fragile"

    def __call__(self, videos):
        if any(video.video_id == "bad" for video in videos):
            raise ZeroDivisionError("oops")
        return list(videos)


def test_a_video_that_breaks_a_stage_ends_alone_and_an_ended_one_passes_by():
    ended = Video(row=0, video_id="gone").ended(Reason.NO_AUDIO)
    videos = [ended, Video(row=1, video_id="good"), Video(row=2, video_id="bad"), Video(row=3, video_id="fine")]
    out = run_stages([Fragile()], videos)
    assert out[0] is ended
    assert [video.status for video in out] == [Status.FAILED, Status.OK, Status.RETRY, Status.OK]
    assert out[2].reason == "internal_error" and "fragile" in out[2].detail and "oops" in out[2].detail
    assert "fragile" in out[1].seconds and "fragile" not in out[0].seconds


class Sick:
    """Every call fails, each time with the error that follows in `errors`."""

    name = "sick"

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self, videos):
        raise self.errors.pop(0)


def test_a_stage_that_fails_alike_at_every_video_is_a_sick_worker_and_spoils_none():
    videos = [Video(row=0, video_id="a"), Video(row=1, video_id="b")]
    with pytest.raises(SickWorker, match=r"sick.*2 videos: RuntimeError: CUDA error"):
        run_stages([Sick(*[RuntimeError("CUDA error")] * 3)], videos)


def test_a_video_alone_and_videos_that_fail_in_different_ways_end_one_by_one():
    videos = [Video(row=0, video_id="a"), Video(row=1, video_id="b")]
    assert [v.reason for v in run_stages([Sick(OSError())], videos[:1])] == ["internal_error"]
    out = run_stages([Sick(OSError(), KeyError(), ValueError())], videos)
    assert [v.reason for v in out] == ["internal_error"] * 2


def test_an_error_whose_text_holds_surrogates_and_escapes_still_crosses_the_boundary():
    (video,) = run_stages([Sick(ValueError("caf\udce9 \x1b[2J"))], [Video(row=0, video_id="a")])
    assert from_table(to_table([video]))[0].detail == "stage sick: ValueError: caf [2J"
