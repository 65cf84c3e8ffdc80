"""Joining neighbours that sound the same."""

import numpy as np

from autorecap.stages.media_files.levels import levels
from autorecap.stages.merge import merge_clips
from autorecap.stages.records import Clip, Verdict


def clip(start_s, end_s, caption, **more):
    num_samples = round((end_s - start_s) * 100)
    audio = np.full(num_samples, 100 + int(start_s), "<i2").tobytes()
    times = {"start_ms": round(start_s * 1000), "end_ms": round(end_s * 1000)}
    return Clip(**times, caption=caption, audio=audio, sample_rate_hz=100, num_samples=num_samples, **more)


def spans(clips):
    return [(c.start_ms, c.end_ms, c.caption) for c in clips]


def test_consecutive_clips_with_identical_captions_become_one_with_all_their_samples():
    parts = [clip(0, 10, "Rain falls"), clip(10, 20, "Rain falls"), clip(20, 25.5, "Rain falls")]
    (joined,) = merge_clips(parts)
    assert spans([joined]) == [(0, 25_500, "Rain falls")]
    assert joined.audio == b"".join(part.audio for part in parts) and joined.num_samples == 2550
    assert (joined.rms_dbfs, joined.peak_dbfs) == levels(joined.audio)


def test_clips_that_do_not_touch_or_differ_stay_apart():
    parts = [clip(0, 10, "Rain"), clip(10, 20, "Wind"), clip(20, 30, "Rain"), clip(30.001, 40, "Rain")]
    assert merge_clips(parts) == parts


def test_clips_that_were_dropped_or_not_captioned_are_never_joined():
    silent = clip(0, 10, "").dropped(Verdict.SILENT)
    parts = [silent, clip(10, 20, ""), clip(20, 30, ""), clip(30, 40, "Rain").dropped(Verdict.PAST_END)]
    assert merge_clips(parts) == parts


def test_what_the_pictures_show_does_not_keep_equal_sounds_apart_and_is_kept():
    pictures = ["A roof", "", "A window", "A roof"]
    parts = [clip(10 * i, 10 * i + 10, "Rain falls", video_caption=shown) for i, shown in enumerate(pictures)]
    (joined,) = merge_clips(parts)
    assert joined.video_caption == "A roof; A window"


def test_vectors_are_averaged_by_duration_and_none_is_made_up():
    one, other = (np.array(x, "<f4").tobytes() for x in ([1, 0], [0, 1]))
    parts = [clip(0, 9, "Rain", clap_audio=one), clip(9, 12, "Rain", clap_audio=other)]
    (joined,) = merge_clips(parts)
    assert np.frombuffer(joined.clap_audio or b"", "<f4").tolist() == [0.75, 0.25]
    assert merge_clips([clip(0, 9, "Rain"), parts[1]])[0].clap_audio is None


def test_no_clips_stay_no_clips():
    assert merge_clips([]) == []
