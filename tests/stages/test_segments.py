"""Gaps and clips: the paper's rule, and every way in which a transcript's times mislead."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.stages.reasons import Reason
from autorecap.stages.records import Cue, Video
from autorecap.stages.segments import (
    Segments,
    SegmentsConfig,
    cut_clips,
    find_gaps,
    is_sound_description,
    segment,
    why_collapsed,
)
from autorecap.stages.stage import run_stages
from autorecap.stages.transcript_files import read_transcript
from autorecap.stages.transcript_files.cue_text import is_blank
from tests.support.places import VECTORS

CONFIG = SegmentsConfig()


def cue(start_ms, duration_ms, text="so it is", words_ms=()):
    return Cue(start_ms=start_ms, duration_ms=duration_ms, text=text, word_starts_ms=tuple(words_ms))


def gaps(*cues, duration_ms=60_000, **options):
    return find_gaps(cues, duration_ms, **options)


def test_head_middle_and_tail_count_and_touching_cues_leave_no_gap():
    found = gaps(cue(5000, 3000), cue(8000, 4500), cue(20_000, 2000), duration_ms=30_000)
    assert found == [(0, 5000), (12_500, 20_000), (22_000, 30_000)]


def test_overlapping_cues_cover_their_union():
    assert gaps(cue(0, 20_000), cue(2000, 1000), cue(10_000, 5000), duration_ms=22_000) == [(20_000, 22_000)]


def test_cues_may_come_in_any_order_and_twice():
    found = gaps(cue(30_000, 3000), cue(0, 4000, "\u200ba"), cue(0, 4000, "a"), cue(12_000, 3000), duration_ms=40_000)
    assert found == [(4000, 12_000), (15_000, 30_000), (33_000, 40_000)]


@pytest.mark.parametrize("duration_ms", [None, 0, -5000])
def test_a_cue_without_a_duration_lasts_until_the_next_event(duration_ms):
    assert gaps(cue(0, 2000), cue(5000, duration_ms), cue(9000, 1000), duration_ms=10_000) == [(2000, 5000)]
    assert gaps(cue(0, 5000), cue(5000, duration_ms), cue(9000, 1000, "\n"), duration_ms=20_000) == [(9000, 20_000)]


def test_a_cue_without_a_duration_lasts_ten_seconds_at_most_or_a_second_for_each_word():
    assert gaps(cue(0, None), cue(40_000, 20_000)) == [(10_000, 40_000)]
    assert gaps(cue(0, None, "word " * 25), cue(40_000, 20_000)) == [(25_000, 40_000)]


def test_a_last_cue_without_a_duration_lasts_as_long_as_its_words_take():
    assert gaps(cue(0, None, "one"), duration_ms=10_000) == [(1000, 10_000)]
    assert gaps(cue(0, None, "word " * 20), duration_ms=10_000) == [(8000, 10_000)]


def test_a_cue_past_the_end_is_clamped_and_one_that_starts_there_is_left_out():
    assert gaps(cue(0, 2000), cue(8000, 9000), cue(15_000, 2000), duration_ms=10_000) == [(2000, 8000)]
    assert gaps(cue(0, 2000), cue(11_000, 2000), duration_ms=10_000) == [(2000, 10_000)]


def test_a_cue_that_starts_before_zero_covers_what_is_left_of_it():
    assert gaps(cue(-2000, 5000), duration_ms=10_000) == [(3000, 10_000)]


def test_without_a_duration_there_is_no_gap_after_the_last_cue():
    assert gaps(cue(4000, 2000), cue(9000, 3000), duration_ms=None) == [(0, 4000), (6000, 9000)]


def test_a_broadcasts_clock_is_no_head_gap_of_fifty_years():
    for duration_ms in (None, 600_000):
        found = segment([cue(1_700_000_000_000, 2000), cue(1_700_000_009_000, 2000)], duration_ms, CONFIG)
        assert (found.reason, found.gaps_ms) == (Reason.MISTIMED_TRANSCRIPT, ())
    assert segment([cue(-9000, 2000)], 60_000, CONFIG).reason is Reason.MISTIMED_TRANSCRIPT


def test_a_later_cue_with_a_broadcasts_clock_opens_no_gap_of_fifty_years():
    assert gaps(cue(0, 2000), cue(5000, 1000), cue(1_700_000_000_000, 2000), duration_ms=None) == [(2000, 5000)]


@pytest.mark.parametrize(
    "text", ["[Music]", "\u266a", "\u266a la la \u266a", "[Applause]", "(birds chirping)", "[ __ ]"]
)
def test_every_visible_subtitle_covers_by_default(text):
    assert gaps(cue(0, 10_000, text), duration_ms=12_000) == [(10_000, 12_000)]


def test_sound_descriptions_are_free_on_request_unless_they_name_speech_or_music():
    for text in (
        "[Applause]",
        "(birds chirping)",
        "[Laughter] [Applause]",
        "- [door slams]\n- [wind]",
        ">> (single bark)",
    ):
        assert is_sound_description(text), text
    for text in (
        "[Music]", "[ __ ]", "(man singing)", "[speaking French]", "[Applause] thanks", "hello", "", "(\u266a)",
        "[\u97f3\u697d]", "[Musik]", "[piano plays]", "[Applause",
    ):  # fmt: skip
        assert not is_sound_description(text), text
    cues = [cue(0, 2000), cue(10_000, 5000, "[Applause]"), cue(30_000, 5000, "[Music]")]
    free = segment(cues, 40_000, replace(CONFIG, free_sound_descriptions=True))
    assert free.gaps_ms == ((2000, 30_000), (35_000, 40_000))


@pytest.mark.parametrize("text", ["", "  ", "\n", "\u00a0", "\u200b", "\ufeff\n"])
def test_a_blank_cue_is_not_speech(text):
    cues = [cue(0, 2000), cue(3000, 3000, text), cue(7000, 1000, text), cue(9000, 500, text), cue(12_000, 900, text)]
    assert segment(cues, 20_000, CONFIG).gaps_ms == ((2000, 20_000),)


def test_a_text_shown_at_once_and_blank_cues_after_it_are_a_collapsed_track():
    text = "word " * 150
    words_ms = range(0, 1650, 11)
    blanks = [cue(4340 + 2000 * i, 2000, " \n ") for i in range(20)]
    found = segment([cue(0, 2000, text, words_ms), cue(2000, 2340, text), *blanks], 60_000, CONFIG)
    assert (found.reason, found.gaps_ms) == (Reason.COLLAPSED_TRANSCRIPT, ())


def test_either_sign_alone_makes_a_collapsed_track():
    assert why_collapsed([cue(0, 2340, "word " * 150)])
    assert why_collapsed([cue(300, 300, "word " * 20)])
    assert why_collapsed([cue(0, 4000), *(cue(4000 + 2000 * i, 2000, " ") for i in range(9))])


def test_a_short_collapsed_track_is_known_by_the_pace_of_its_words_or_by_the_blanks_after_many():
    text = "word " * 25
    held = [cue(0, 2000, text, range(0, 275, 11)), cue(2000, 2340, text)]
    blanks = [cue(4340 + 2000 * i, 2000, " \n ") for i in range(4)]
    assert why_collapsed(held)
    assert why_collapsed([cue(0, 2600, text), cue(2600, 2600, text), *blanks])
    assert not why_collapsed([cue(0, 4000), cue(4000, 2600), *blanks])


def test_short_lines_that_flash_by_before_blank_cues_are_a_collapsed_track():
    flashes = [cue(105 * i, 105, f"line {i} has just seven words in it") for i in range(7)]
    assert why_collapsed([*flashes, cue(9_000, 2_800, "\n")])
    held = [*flashes[:-1], cue(630, 9_000, "the last of them stays")]
    assert why_collapsed([*held, cue(9_630, 2_800, "\n")])
    assert not why_collapsed(flashes[:1])


def test_a_collapsed_list_without_its_blank_cues_is_known_even_at_exactly_three_seconds():
    data = json.dumps([{"text": "word " * 300, "start": 0.0, "duration": 3.0}]).encode()
    assert segment(read_transcript(data, "v.json").cues, 600_000, CONFIG).reason is Reason.COLLAPSED_TRANSCRIPT


def test_ordinary_tracks_are_not_collapsed():
    line = "twelve words that are held for ten milliseconds by a rolling track"
    rolling = [
        c
        for i in range(0, 60_000, 3000)
        for c in (cue(i, 2990, f"{line} {i}\n{line}", range(i, i + 2400, 200)), cue(i + 2990, 10, f"{line} {i}"))
    ]
    karaoke = [cue(i * 40, 40, line) for i in range(100)]
    one_dense = [cue(0, 1000, "word " * 12), *(cue(5000 * i, 3000, f"so it is {i}") for i in range(1, 9))]
    with_blanks = [c for i in range(9) for c in (cue(i * 4000, 2000), cue(i * 4000 + 1990, 10, "\n"))]
    for cues in (rolling, karaoke, one_dense, with_blanks):
        assert not why_collapsed(cues)


def test_automatic_captions_linger_by_default_and_end_at_their_last_word_on_request():
    cues = [cue(0, 15_000, "so it is", (0, 300, 900)), cue(15_000, 5000, "again", ())]
    assert gaps(*cues, duration_ms=20_000) == []
    assert gaps(*cues, duration_ms=20_000, word_pad_ms=700) == [(1600, 15_000)]
    config = replace(CONFIG, word_level_ends=True)
    assert segment(cues, 20_000, config).gaps_ms == ((1600, 15_000),)


def test_music_that_counts_as_one_word_lasts_as_long_as_it_is_shown():
    assert gaps(cue(0, 15_000, "[Music]", (0,)), duration_ms=15_000, word_pad_ms=700) == []


def test_the_threshold_is_strict_to_the_millisecond():
    times = [("0.0", "1.1"), ("2.1", "1.0"), ("4.101", "1")]  # 1.1 + 1.0 is more than 2.1 in floats
    data = ",".join(f'{{"text": "a", "start": {start}, "duration": {duration}}}' for start, duration in times)
    assert find_gaps(read_transcript(f"[{data}]".encode(), "v.json").cues, 5101) == [(3100, 4101)]
    assert gaps(cue(1000, 1000), duration_ms=3000) == []
    assert gaps(cue(1001, 1000), duration_ms=3002) == [(0, 1001), (2001, 3002)]


def test_gaps_are_cut_to_ten_seconds_and_rests_of_a_second_are_dropped():
    assert cut_clips([(12_500, 38_000)]) == [(12_500, 22_500), (22_500, 32_500), (32_500, 38_000)]
    assert cut_clips([(0, 21_000)]) == [(0, 10_000), (10_000, 20_000)]
    assert cut_clips([(0, 21_001)]) == [(0, 10_000), (10_000, 20_000), (20_000, 21_001)]
    assert cut_clips([(0, 1001), (5000, 15_000)]) == [(0, 1001), (5000, 15_000)]


def test_a_transcript_without_text_says_nothing_about_speech():
    for cues in ([], [cue(0, 2000, " "), cue(5000, 2000, "\n")]):
        found = segment(cues, 60_000, CONFIG)
        assert (found.reason, found.gaps_ms) == (Reason.EMPTY_TRANSCRIPT, ())


def test_a_long_tail_after_partial_captions_is_kept_by_default_and_left_out_on_request():
    cues = [cue(2000, 30_000), cue(50_000, 10_000)]
    assert segment(cues, 660_000, CONFIG).gaps_ms == ((0, 2000), (32_000, 50_000), (60_000, 660_000))
    found = segment(cues, 660_000, replace(CONFIG, max_edge_gap_ms=120_000))
    assert found.gaps_ms == ((0, 2000), (32_000, 50_000))


def test_repeated_lines_are_not_removed_before_gaps_are_found():
    vtt = (
        b"WEBVTT\n\n00:00:00.000 --> 00:00:07.749\n \nso<00:00:01.000><c> it</c>\n\n"
        b"00:00:07.749 --> 00:00:07.759\nso it\n \n\n"
        b"00:00:07.759 --> 00:00:12.000\nso it\nis<00:00:08.000><c> here</c>\n"
    )
    assert find_gaps(read_transcript(vtt, "v.vtt").cues, 14_000) == [(12_000, 14_000)]


def test_a_duration_beyond_a_week_makes_no_more_clips_than_a_week():
    found = segment([cue(0, 1000)], 7 * 24 * 3_600_000, CONFIG)
    assert len(found.clips_ms) == 60_480
    assert segment([cue(0, 1000)], 10**15, CONFIG).clips_ms == found.clips_ms


def test_the_stage_sets_clips_counts_and_drops_the_cues():
    video = Video(row=0, video_id="v", duration_ms=38_000, cues=(cue(0, 12_500),), num_cues=1)
    done = run_stages([Segments(CONFIG)], [video])[0]
    assert [(clip.start_ms, clip.end_ms) for clip in done.clips] == [
        (12_500, 22_500),
        (22_500, 32_500),
        (32_500, 38_000),
    ]
    assert (done.num_gaps, done.gap_ms, done.num_clips, done.num_cues, done.cues) == (1, 25_500, 3, 1, ())


def test_the_stage_ends_a_video_without_gaps_and_keeps_the_order():
    full = Video(row=0, video_id="full", duration_ms=5000, cues=(cue(0, 5000),))
    empty = Video(row=1, video_id="empty", duration_ms=5000, cues=())
    done = run_stages([Segments(CONFIG)], [full, empty])
    assert [(video.video_id, video.reason) for video in done] == [("full", "no_gap"), ("empty", "empty_transcript")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_gap_ms": -1}, "min_gap_ms: expected 0 or more, found -1"),
        ({"max_clip_ms": 0}, "max_clip_ms: expected more than 0, found 0"),
        ({"min_clip_ms": 10_000}, "min_clip_ms: expected less than max_clip_ms, 10000, found 10000"),
        ({"word_pad_ms": 499}, "word_pad_ms: expected 500 or more, found 499"),
        ({"max_edge_gap_ms": 0}, "max_edge_gap_ms: expected more than 0, found 0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        SegmentsConfig(**wrong)


def test_the_worked_cases():
    cases = json.loads((VECTORS / "gap-cases.json").read_text())
    for case in cases["gaps"]:
        name = case.get("file")
        data = (VECTORS / "transcripts" / name).read_bytes() if name else json.dumps(case["cues"]).encode()
        seconds = case["video_duration"]
        found = segment(read_transcript(data, "v").cues, None if seconds is None else round(seconds * 1000), CONFIG)
        expected = tuple((round(start * 1000), round(end * 1000)) for start, end in case["expected"])
        assert found.gaps_ms == expected, case["id"]
    for case in cases["clips"]:
        (start, end), expected = case["gap"], case["expected"]
        clips = cut_clips([(round(start * 1000), round(end * 1000))], max_clip_ms=case["max_clip"] * 1000)
        assert clips == [(round(a * 1000), round(b * 1000)) for a, b in expected], case["id"]


cue_lists = st.lists(
    st.builds(
        cue,
        st.integers(-5_000, 90_000),
        st.none() | st.integers(-1_000, 15_000),
        st.sampled_from(["so it is", "a", "", "\n", "\u200b", "[Music]", "word " * 30]),
    ),
    max_size=15,
)


@given(cue_lists, st.none() | st.integers(1, 80_000), st.integers(0, 3_000), st.randoms(use_true_random=False))
def test_gaps_are_disjoint_longer_than_the_minimum_free_of_cues_and_independent_of_order(
    cues, duration_ms, min_gap_ms, random
):
    found = find_gaps(cues, duration_ms, min_gap_ms=min_gap_ms)
    edges = [edge for gap in found for edge in gap]
    assert edges == sorted(edges)
    assert all(end_ms - start_ms > min_gap_ms for start_ms, end_ms in found)
    assert all(start_ms >= 0 and (duration_ms is None or end_ms <= duration_ms) for start_ms, end_ms in found)
    for c in cues:
        if not is_blank(c.text):
            until_ms = c.start_ms + max(c.duration_ms or 0, 1)
            assert all(until_ms <= start_ms or c.start_ms >= end_ms for start_ms, end_ms in found)
    shuffled = random.sample(cues, len(cues))
    assert find_gaps(shuffled, duration_ms, min_gap_ms=min_gap_ms) == found


@given(cue_lists, st.integers(1, 80_000), st.integers(500, 5000), st.integers(0, 499))
def test_clips_partition_the_gaps_up_to_the_dropped_rests(cues, duration_ms, max_clip_ms, min_clip_ms):
    for gap in find_gaps(cues, duration_ms):
        clips = cut_clips([gap], max_clip_ms=max_clip_ms, min_clip_ms=min_clip_ms)
        assert all(min_clip_ms < end_ms - start_ms <= max_clip_ms for start_ms, end_ms in clips)
        at_ms = gap[0]
        for start_ms, end_ms in clips:
            assert start_ms == at_ms
            at_ms = end_ms
        assert at_ms == gap[1] or gap[1] - at_ms <= min_clip_ms


@given(cue_lists, st.none() | st.integers(-10, 80_000))
def test_every_transcript_gets_gaps_or_a_reason_and_never_both(cues, duration_ms):
    found = segment(cues, duration_ms, CONFIG)
    assert bool(found.reason) != bool(found.gaps_ms)
    assert bool(found.clips_ms) == bool(found.gaps_ms)
