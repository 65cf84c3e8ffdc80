"""The keywords stage: which clips it drops, and how a video ends of which none is kept."""

from autorecap.stages.keyword_files.keyword_filter import EMPTY_CAPTION
from autorecap.stages.keywords import Keywords, KeywordsConfig
from autorecap.stages.reasons import Reason, Status
from autorecap.stages.records import Clip, Verdict, Video

# The stage


def video(*clips):
    return Video(row=0, video_id="v", clips=clips)


def clip(caption="", verdict=Verdict.PENDING):
    return Clip(start_ms=0, end_ms=3000, caption=caption, verdict=verdict, audio=b"0")


def test_the_stage_keeps_ambient_clips_with_their_audio_and_drops_others_with_the_keyword():
    [done] = Keywords(KeywordsConfig())([video(clip("Rain falls"), clip("A man speaks"), clip(" "))])
    assert [c.verdict for c in done.clips] == [Verdict.KEPT, Verdict.KEYWORD, Verdict.KEYWORD]
    assert [c.keyword for c in done.clips] == ["", "speaks", EMPTY_CAPTION]
    assert [c.audio for c in done.clips] == [b"0", None, None]
    assert done.is_ok


def test_clips_that_have_a_verdict_are_left_as_they_are():
    silent = clip("", Verdict.SILENT)
    [done] = Keywords(KeywordsConfig())([video(silent, clip("Rain falls"))])
    assert done.clips[0] == silent


def test_a_video_of_which_no_clip_is_kept_ends_and_says_why():
    clips = (clip("", Verdict.SILENT), clip("A man is speaking"), clip("Music plays"))
    [done] = Keywords(KeywordsConfig())([video(*clips)])
    assert (done.status, done.reason) == (Status.REJECTED, Reason.ALL_CLIPS_FILTERED.code)
    assert done.detail == "3 clips: 2 keyword (speaking, music), 1 silent"


def test_the_stage_switched_off_still_drops_clips_without_a_caption():
    [done] = Keywords(KeywordsConfig(enabled=False))([video(clip("A man speaks"), clip(""))])
    assert [c.verdict for c in done.clips] == [Verdict.KEPT, Verdict.KEYWORD]


def test_the_stage_keeps_the_order_of_videos():
    videos = [video(clip("Rain")), video(clip("A man speaks")), video(clip("Wind"))]
    assert [v.is_ok for v in Keywords(KeywordsConfig())(videos)] == [True, False, True]
