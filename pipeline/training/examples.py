"""From captioned clips to the endless list of examples that a captioner learns from.

Everything about the example at a position (which clip, which of its captions, which piece of a long one, what is
kept of its metadata, what it is mixed with) is drawn from (seed, position).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.training.augment import mixed_caption
from pipeline.training.clips import Audio, Clips
from pipeline.training.order import sample_at
from stages.settings import check, setting

DRAW = 1  # purpose of random draws


@dataclass(frozen=True, kw_only=True)
class Example:
    """One clip to learn from."""

    name: str
    load: Callable[[], Audio]
    caption: str
    title: str = ""
    video_caption: str = ""
    other: "Example | None" = None  # mixed into it
    other_share: float = 0.0


class Examples(Protocol):
    """The endless list of examples."""

    def __call__(self, position: int) -> Example: ...


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig:
    """How examples are drawn from clips."""

    mix_p: float = setting(0.1, "Share of clips that get another one mixed in, captioned 'A and B'.", results=True)
    drop_title_p: float = setting(0.1, "Share of clips whose title is withheld.", results=True)
    drop_video_caption_p: float = setting(0.1, "The same for the caption of the picture.", results=True)

    def __post_init__(self) -> None:
        for name in ("mix_p", "drop_title_p", "drop_video_caption_p"):
            check(0 <= getattr(self, name) <= 1, f"examples.{name} is {getattr(self, name)}: a share from 0 to 1")


class ClipExamples:
    """Clips in another order every epoch."""

    def __init__(self, clips: Clips, config: ExamplesConfig, window_s: float, seed: int) -> None:
        self.clips, self.config, self.window_s, self.seed = clips, config, window_s, seed

    def __call__(self, position: int) -> Example:
        rng = np.random.default_rng([self.seed, DRAW, position])
        index = sample_at(self.seed, position, len(self.clips))
        example = self._example(index, rng, self.config.drop_title_p, self.config.drop_video_caption_p)
        if rng.random() >= self.config.mix_p or len(self.clips) < 2:
            return example
        # Any other clip: the index is one of those that are not this one's.
        index = (index + 1 + int(rng.integers(len(self.clips) - 1))) % len(self.clips)
        other = self._example(index, rng, 1.0, 1.0)
        share = 0.5 if rng.random() < 0.5 else float(rng.uniform(0.2, 0.4))
        return Example(
            name=f"{example.name} + {other.name}",
            load=example.load,
            caption=mixed_caption(example.caption, other.caption, share),
            title=example.title,
            video_caption=example.video_caption,
            other=other,
            other_share=share,
        )

    def _example(
        self, index: int, rng: np.random.Generator, drop_title_p: float, drop_video_caption_p: float
    ) -> Example:
        clip = self.clips[index]
        caption = clip.captions[int(rng.integers(len(clip.captions)))]
        share, title_draw, video_draw = rng.random(3)
        return Example(
            name=clip.name,
            load=lambda: clip.load(self.window_s, float(share)),
            caption=caption,
            title="" if title_draw < drop_title_p else clip.title,
            video_caption="" if video_draw < drop_video_caption_p else clip.video_caption,
        )


class PlainExamples:
    """Clips as they are, in their own order and with their first caption: for validation."""

    def __init__(self, clips: Clips, window_s: float) -> None:
        self.clips, self.window_s = clips, window_s

    def __call__(self, position: int) -> Example:
        clip = self.clips[position]
        return Example(
            name=clip.name,
            load=lambda: clip.load(self.window_s, 0.0),
            caption=clip.captions[0],
            title=clip.title,
            video_caption=clip.video_caption,
        )
