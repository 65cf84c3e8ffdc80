"""The keywords stage, the last filter: drops clips whose caption names speech or music (paper, A.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from autorecap.base.settings import FILE, Section, setting
from autorecap.stages.keyword_files.keyword_filter import EMPTY_CAPTION, KeywordFilter
from autorecap.stages.origin import ClipsFrom
from autorecap.stages.records import Clip, Verdict, Video


@dataclass(frozen=True, kw_only=True)
class KeywordsConfig(Section, name="keywords"):
    """Settings of the keywords stage."""

    enabled: bool = setting(
        True,
        "Drop clips whose caption names speech or music. Off: only clips without a caption are dropped.",
        results=True,
    )
    given: bool = setting(
        False,
        "Also filter clips that come with their source (released sets, audio sets). Off: their makers chose them.",
        results=True,
    )
    file: str = setting(
        "",
        "A keyword file of your own; empty: the bundled keywords.yaml, which explains the notation.",
        path=FILE,
    )


class Keywords:
    """Gives every pending clip its verdict. A video of which no clip is kept ends."""

    name = "keywords"

    def __init__(self, config: KeywordsConfig) -> None:
        self.config = config
        self.filter = KeywordFilter(config.file)

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [self._judge_video(video) for video in videos]

    def _judge_video(self, video: Video) -> Video:
        enabled = self.config.enabled and (self.config.given or video.origin.clips is ClipsFrom.GAPS)
        clips = tuple(self._judge(clip, enabled) if clip.verdict is Verdict.PENDING else clip for clip in video.clips)
        return replace(video, clips=clips).ended_if_none_kept()

    def _judge(self, clip: Clip, enabled: bool) -> Clip:
        keyword = self.filter.match(clip.caption)
        if keyword is None or (not enabled and keyword != EMPTY_CAPTION):
            return replace(clip, verdict=Verdict.KEPT)
        return clip.dropped(Verdict.KEYWORD, keyword)
