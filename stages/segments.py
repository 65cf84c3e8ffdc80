"""The segments stage: finds the spans of a video without any subtitle and cuts them into clips (paper, A.2).

The paper accepts spans longer than one second over which no subtitle is shown, and limits a clip to ten seconds. All
times are integer milliseconds. A cue is shown from its start for its duration; cues overlap, come in any order, last
longer than the video or state no duration at all, and a transcript may be damaged so that its times mean nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autorecap.base.settings import Section, check, setting
from autorecap.stages.origin import AudioFrom, ClipsFrom
from autorecap.stages.reasons import Reason
from autorecap.stages.records import MAX_VIDEO_MS, TO_THE_END, Clip, Cue, Span, Video
from autorecap.stages.transcript_files.cue_text import is_blank, likely_shown_ms, num_words

# A collapsed track shows its whole text at once, 11 to 24 ms a word. Nobody says more than eight words a second.
COLLAPSED_WORDS_PER_S = 8
COLLAPSED_MIN_WORDS = 10  # a short exclamation can be shown that briefly
COLLAPSED_MIN_BLANKS = 8  # the cues of the lines whose words went to the start
COLLAPSED_MIN_BLANKS_AFTER_LONG_TEXT = 3  # where the cues hold more words than a cue has
LONG_TEXT_WORDS = 12  # in a cue, on average
ANIMATION_MS = 100  # shorter cues are frames of an animation, or hold a rolled line: no measure of speech

CLIP_ITSELF_MS = 500  # what encoders add to a file that was cut from a video

MIN_SHOWN_MS = 1_000  # of a cue without a duration


@dataclass(frozen=True, kw_only=True)
class SegmentsConfig(Section, name="segments"):
    """Settings of the segments stage: what counts as a gap, and how gaps become clips."""

    min_gap_ms: int = setting(
        1_000,
        "Milliseconds that a gap must exceed. One second, as in the paper (A.2).",
        results=True,
        ge=0,
    )
    max_clip_ms: int = setting(
        10_000,
        "Longest clip in milliseconds; longer gaps are cut. Ten seconds, as in the paper (A.2).",
        results=True,
        gt=0,
    )
    min_clip_ms: int = setting(
        1_000, "Milliseconds that the rest of a cut gap must exceed to become a clip.", results=True, ge=0
    )
    word_level_ends: bool = setting(
        False,
        "End a cue with timed words after its last word, not when it leaves the screen: automatic captions linger over "
        "ambience. Off: the paper goes by what is on the screen.",
        results=True,
    )
    word_pad_ms: int = setting(
        700,
        "With word_level_ends: milliseconds that the last word of a cue may last.",
        results=True,
        ge=500,
    )
    free_sound_descriptions: bool = setting(
        False,
        "Treat a cue that only describes a sound, as [Applause] or (birds chirping), as no subtitle, unless it names "
        "speech or music. Off: by the paper's words every subtitle counts.",
        results=True,
    )
    max_edge_gap_ms: int | None = setting(
        None,
        "Leave out gaps at the start or the end of the video that are longer than this, in milliseconds: manual "
        "captions often cover only a part of it. null: keep them, as the paper does.",
        results=True,
        gt=0,
    )

    def validate(self) -> None:
        check(
            self.min_clip_ms < self.max_clip_ms,
            "segments.min_clip_ms",
            f"expected less than max_clip_ms, {self.max_clip_ms}, found {self.min_clip_ms}",
        )


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The gaps of one transcript and their clips, or the reason why it has none."""

    gaps_ms: tuple[Span, ...] = ()
    clips_ms: tuple[Span, ...] = ()
    reason: Reason | None = None
    detail: str = ""


class Segments:
    """Turns the cues of each video into clips without audio, and drops the cues. Clips that exist already stay."""

    name = "segments"

    def __init__(self, config: SegmentsConfig) -> None:
        self.config = config

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [_given(video) if video.origin.clips is ClipsFrom.SOURCE else self._segment(video) for video in videos]

    def _segment(self, video: Video) -> Video:
        if video.clips:  # out of a dataset of segments
            return video
        segmentation = segment(video.cues, video.duration_ms, self.config)
        if segmentation.reason:
            return video.ended(segmentation.reason, segmentation.detail)
        return replace(
            video,
            cues=(),
            num_gaps=len(segmentation.gaps_ms),
            gap_ms=sum(end - start for start, end in segmentation.gaps_ms),
            num_clips=len(segmentation.clips_ms),
            clips=tuple(Clip(start_ms=start, end_ms=end) for start, end in segmentation.clips_ms),
        )


def _given(video: Video) -> Video:
    """Return a video whose source brings its clips; a clip that stands for the whole file gets the end of the file.

    A file that is no longer than its one clip is the clip itself, whatever times the clip has in the video it is from.
    """
    if len(video.clips) == 1 and video.duration_ms is not None and video.origin.audio is AudioFrom.FILE:
        (clip,) = video.clips
        if clip.start_ms and video.duration_ms <= clip.duration_ms + CLIP_ITSELF_MS:
            video = replace(video, clips=(replace(clip, start_ms=0, end_ms=video.duration_ms),))
    end_ms = TO_THE_END if video.duration_ms is None else video.duration_ms
    clips = tuple(replace(clip, end_ms=end_ms) if clip.end_ms == TO_THE_END else clip for clip in video.clips)
    if any(clip.end_ms == TO_THE_END for clip in clips):
        return video.ended(Reason.UNDECODABLE, "the list names the whole file, whose header says no length")
    return replace(video, clips=clips, num_clips=len(clips))


def segment(cues: Sequence[Cue], duration_ms: int | None, config: SegmentsConfig) -> Segmentation:
    """Judge a transcript and segment its video. `duration_ms`: None where it is unknown."""
    texts = [cue for cue in cues if not is_blank(cue.text)]
    if not texts:
        return Segmentation(reason=Reason.EMPTY_TRANSCRIPT, detail=f"{len(cues)} cues, all blank")
    if detail := why_mistimed(cues, duration_ms):
        return Segmentation(reason=Reason.MISTIMED_TRANSCRIPT, detail=detail)
    if detail := why_collapsed(cues):
        return Segmentation(reason=Reason.COLLAPSED_TRANSCRIPT, detail=detail)
    if config.free_sound_descriptions:
        cues = [cue._replace(text="") if is_sound_description(cue.text) else cue for cue in cues]
    gaps = find_gaps(
        cues,
        duration_ms,
        min_gap_ms=config.min_gap_ms,
        word_pad_ms=config.word_pad_ms if config.word_level_ends else None,
    )
    if config.max_edge_gap_ms is not None:
        gaps = [
            (start_ms, end_ms)
            for start_ms, end_ms in gaps
            if end_ms - start_ms <= config.max_edge_gap_ms or (start_ms > 0 and end_ms != duration_ms)
        ]
    clips = cut_clips(gaps, max_clip_ms=config.max_clip_ms, min_clip_ms=config.min_clip_ms)
    if not clips:
        return Segmentation(reason=Reason.NO_GAP, detail=f"{len(texts)} cues with text")
    return Segmentation(gaps_ms=tuple(gaps), clips_ms=tuple(clips))


def find_gaps(
    cues: Sequence[Cue], duration_ms: int | None, *, min_gap_ms: int = 1_000, word_pad_ms: int | None = None
) -> list[Span]:
    """Return the spans of [0, duration_ms) without a cue that has text, longer than `min_gap_ms`, in order.

    Without a duration there is no gap after the last cue. `word_pad_ms`: a cue with timed words ends that long after
    the start of its last word. Cues may overlap and come in any order; one that starts after the end is ignored.
    """
    end_ms = _end_ms(duration_ms)
    gaps = []
    covered_until_ms = 0
    for start_ms, until_ms in sorted(_shown(cues, word_pad_ms)):
        if start_ms >= end_ms:
            break
        if start_ms - covered_until_ms > min_gap_ms:
            gaps.append((covered_until_ms, start_ms))
        covered_until_ms = max(covered_until_ms, until_ms)
    if duration_ms is not None and end_ms - covered_until_ms > min_gap_ms:
        gaps.append((covered_until_ms, end_ms))
    return gaps


def cut_clips(gaps: Sequence[Span], *, max_clip_ms: int = 10_000, min_clip_ms: int = 1_000) -> list[Span]:
    """Cut gaps into clips of `max_clip_ms`; the rest of a gap is dropped unless longer than `min_clip_ms`."""
    return [
        (start_ms, min(start_ms + max_clip_ms, gap_end_ms))
        for gap_start_ms, gap_end_ms in gaps
        for start_ms in range(gap_start_ms, gap_end_ms, max_clip_ms)
        if gap_end_ms - start_ms > min_clip_ms
    ]


def why_mistimed(cues: Sequence[Cue], duration_ms: int | None) -> str:
    """Say why the times cannot be those of this video: no cue with text lies within it. "" where one does."""
    end_ms = _end_ms(duration_ms)
    if any(0 <= cue.start_ms < end_ms and not is_blank(cue.text) for cue in cues):  # the first, in most files
        return ""
    spans = _shown(cues, word_pad_ms=None)
    if any(start_ms < end_ms and until_ms > 0 for start_ms, until_ms in spans):
        return ""
    first_ms, last_ms = min(start for start, _ in spans), max(until for _, until in spans)
    return f"cues from {first_ms / 1000:.3f} s to {last_ms / 1000:.3f} s, the video ends at {end_ms / 1000:.3f} s"


def why_collapsed(cues: Sequence[Cue]) -> str:
    """Say what shows that the whole text is displayed at once; "" where nothing does.

    Either most of the words stay too short a time to be spoken, or timed blank cues follow a text that has ended, the
    cues of the lines that went to the start: many of them, or any where the whole text went by too fast.
    """
    texts = [cue for cue in cues if not is_blank(cue.text)]
    words: dict[str, int] = {}
    shown_ms: dict[str, int] = {}  # an animation, or a line held, shows one text in several cues
    spoken_ms: dict[str, int] = {}  # from the first word to the last, where words are timed
    spans = _shown(cues, word_pad_ms=None)
    for cue, (start_ms, until_ms) in zip(texts, spans, strict=True):
        text = " ".join(cue.text.split())
        # Where words are timed, the others of a rolling cue belong to the line above.
        num = len(cue.word_starts_ms) or num_words(text)
        if text in words:
            words[text], shown_ms[text] = max(words[text], num), shown_ms[text] + until_ms - start_ms
        else:
            words[text], shown_ms[text] = num, until_ms - start_ms
        if cue.word_starts_ms:
            spoken_ms[text] = cue.word_starts_ms[-1] - cue.word_starts_ms[0]
    num_all = sum(words.values())
    num_crowded = sum(
        num
        for text, num in words.items()
        if num >= COLLAPSED_MIN_WORDS
        and shown_ms[text] >= ANIMATION_MS
        and num * 1_000 > COLLAPSED_WORDS_PER_S * spoken_ms.get(text, shown_ms[text])
    )
    if 2 * num_crowded > num_all:
        return f"{num_crowded} of {num_all} words come faster than {COLLAPSED_WORDS_PER_S} a second"
    last_text_ms = max((cue.start_ms for cue in texts), default=0)
    num_blanks = sum(cue.start_ms > last_text_ms and is_blank(cue.text) for cue in cues)
    if not num_blanks:
        return ""
    is_long = num_all >= LONG_TEXT_WORDS * len(words)
    min_blanks = COLLAPSED_MIN_BLANKS_AFTER_LONG_TEXT if is_long else COLLAPSED_MIN_BLANKS
    if num_blanks >= min_blanks and num_blanks > 2 * len(words):
        return f"{num_blanks} blank cues follow {len(words)} with text"
    # The pace of the whole text, without its last row: that one may be held until the first of the blank cues.
    first_text_ms = min((cue.start_ms for cue in texts), default=0)
    lines = {line.strip() for cue in texts if cue.start_ms < last_text_ms for line in cue.text.splitlines()}
    num_before = sum(map(num_words, lines))  # a rolled line is shown twice and counts once
    is_too_fast = num_before * 1_000 > COLLAPSED_WORDS_PER_S * (last_text_ms - first_text_ms)
    if num_before >= COLLAPSED_MIN_WORDS and is_too_fast:
        return f"{num_before} words within {(last_text_ms - first_text_ms) / 1000:.1f} s, and blank cues after them"
    return ""


# Words of a sound description that make it speech or music after all. "[ __ ]" is a censored word.
_VOICE_OR_MUSIC = re.compile(
    r"\bm[uú]s[iy]|__|\b(?:song|sing(?:s|ing|ers?)?\b|sang|tune|melod|choir|chant|hum(?:s|ming)?\b|rap(?:s|ping)?\b|"
    r"whistl|speak|speech|spoke|talk|voice|narrat|chat|conversation|dialog|announc|shout|yell|whisper|mumbl|murmur|"
    r"mutter|piano|guitar|drum|violin|orchestra|band\b|instrument)|[♩-♯]",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")


def is_sound_description(text: str) -> bool:
    """Return whether a cue holds nothing but bracketed sounds, none of them speech or music. English only."""
    outside, num_brackets = _BRACKETED.subn("", text)
    return num_brackets > 0 and is_blank(outside.strip(" >-")) and text.isascii() and not _VOICE_OR_MUSIC.search(text)


def _end_ms(duration_ms: int | None) -> int:
    return MAX_VIDEO_MS if duration_ms is None else min(duration_ms, MAX_VIDEO_MS)


def _shown(cues: Sequence[Cue], word_pad_ms: int | None) -> list[Span]:
    """Return when each cue with text is on the screen, in the order of `cues`."""
    texts = [cue for cue in cues if not is_blank(cue.text)]
    if word_pad_ms is None and all(cue.duration_ms and cue.duration_ms > 0 for cue in texts):  # as in most files
        return [(start_ms, start_ms + (duration_ms or 0)) for start_ms, duration_ms, _, _ in texts]
    starts_ms = sorted({cue.start_ms for cue in cues})
    return [(cue.start_ms, _shown_until_ms(cue, starts_ms, word_pad_ms)) for cue in texts]


def _shown_until_ms(cue: Cue, starts_ms: Sequence[int], word_pad_ms: int | None) -> int:
    if cue.duration_ms is None or cue.duration_ms <= 0:
        until_ms = cue.start_ms + max(likely_shown_ms(cue.start_ms, cue.text, starts_ms), MIN_SHOWN_MS)
    else:
        until_ms = cue.start_ms + cue.duration_ms
    if word_pad_ms is not None and cue.word_starts_ms and not _SOUND.search(cue.text):
        until_ms = min(until_ms, cue.word_starts_ms[-1] + word_pad_ms)
    return until_ms


_SOUND = re.compile(r"[\[(♩-♯]")  # "[Music]" is one word that lasts as long as the music
