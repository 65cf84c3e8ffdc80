"""Draws training examples from captioned clips: position in, one clip with its caption, metadata and sound out.

Everything about the example at a position (which clip, which of its captions, which piece of a long one, what is
kept of its metadata, what it is mixed with) is drawn from (seed, position).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from autorecap.base.settings import Section, setting
from autorecap.dataset.reading.clips import Audio, Clip, Clips, Latent
from autorecap.dataset.reading.manifest import Manifest
from autorecap.dataset.reading.positions import Positions
from autorecap.dataset.reading.random_draws import TrainingDraw, numpy_generator

MIX_REACH, MIX_TRIES = 4_096, 64  # positions in which a clip to mix in is looked for, and how often


@dataclass(frozen=True, kw_only=True)
class Example:
    """One clip to learn from."""

    name: str
    load: Callable[[], Audio | Latent]
    """Raises UnreadableClipError."""
    caption: str
    title: str = ""
    video_caption: str = ""
    dataset: str = ""  # the name of its set
    seconds: float | None = None  # how long the whole clip is, where that is known without opening it
    other: "Example | None" = None  # mixed into it
    other_share: float = 0.0


class Examples(Protocol):
    """The endless list of examples."""

    def __call__(self, position: int) -> Example: ...


@dataclass(frozen=True, kw_only=True)
class ExamplesConfig(Section, name="examples"):
    """How examples are drawn from clips."""

    mix_p: float = setting(
        0.1, "Share of clips that get another one mixed in, captioned 'A and B'.", results=True, ge=0, le=1
    )
    drop_title_p: float = setting(0.1, "Share of clips whose title is withheld.", results=True, ge=0, le=1)
    drop_video_caption_p: float = setting(0.1, "The same for the caption of the picture.", results=True, ge=0, le=1)


CAPTIONS_ALONE = ExamplesConfig(mix_p=0.0, drop_title_p=1.0, drop_video_caption_p=1.0)
"""Clips unmixed, without titles and captions of pictures: generators use neither, so these are not even read."""


class ClipExamples:
    """Clips in another order every epoch."""

    def __init__(
        self, clips: Clips | Manifest, config: ExamplesConfig, window_s: float, seed: int, window: int = 32
    ) -> None:
        """`window_s`: the longest piece of a clip, in seconds. `window`: how many shards are shuffled as one."""
        self.clips, self.config, self.window_s, self.seed = clips, config, window_s, seed
        self.positions = Positions(clips, seed, window)

    def __call__(self, position: int) -> Example:
        """Return the example at a position. Raises UnreadableClipError where its video caption cannot be read."""
        rng = numpy_generator(self.seed, TrainingDraw.EXAMPLE, position)
        clip = self.positions(position)
        example = self._example(clip, rng, self.config.drop_title_p, self.config.drop_video_caption_p)
        if rng.random() >= self.config.mix_p or len(self.clips) < 2:
            return example
        # Another clip, from among those that come soon: what they lie in is open already.
        near = min(2 * len(self.clips), MIX_REACH)
        drawn = (self.positions(position + int(rng.integers(1, near))) for _ in range(MIX_TRIES))
        partner = next((each for each in drawn if each.name != clip.name), None)
        if partner is None:
            return example
        other = self._example(partner, rng, 1.0, 1.0)
        share = 0.5 if rng.random() < 0.5 else float(rng.uniform(0.2, 0.4))
        return replace(
            example,
            name=f"{example.name} + {other.name}",
            caption=mixed_caption(example.caption, other.caption, share),
            other=other,
            other_share=share,
        )

    def _example(
        self, clip: Clip, rng: np.random.Generator, drop_title_p: float, drop_video_caption_p: float
    ) -> Example:
        caption = clip.captions[int(rng.integers(len(clip.captions)))]
        share, title_draw, video_draw = rng.random(3)
        return Example(
            name=clip.name,
            load=lambda: clip.load(self.window_s, float(share)),
            caption=caption,
            title="" if title_draw < drop_title_p else clip.title,
            video_caption="" if video_draw < drop_video_caption_p else clip.video_caption,
            dataset=clip.dataset,
            seconds=clip.seconds,
        )


class PlainExamples:
    """Clips as they are, in their own order and with their first caption: for validation."""

    def __init__(self, clips: Clips | Manifest, window_s: float) -> None:
        self.clips, self.window_s = clips, window_s

    def __call__(self, position: int) -> Example:
        clip = self.clips[position]
        return Example(
            name=clip.name,
            load=lambda: clip.load(self.window_s, 0.0),
            caption=clip.captions[0],
            title=clip.title,
            video_caption=clip.video_caption,
            dataset=clip.dataset,
            seconds=clip.seconds,
        )


def mixed_caption(caption: str, other: str, share: float) -> str:
    """Return the caption of two clips at once: "A and B", or "A and B in the background" where B is the fainter.

    share: of the mix that is the other clip; as released .5, or .2 to .4
    """
    first, second = caption.rstrip(" .!?"), other.rstrip(" .!?")
    if second[1:2].islower():  # not an acronym or a name in capitals
        second = second[:1].lower() + second[1:]
    return f"{first} and {second}" + (" in the background" if share < 0.5 else "")
