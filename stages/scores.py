"""The scores stage: says how well the caption of a kept clip fits its sound, as CLAP sees it.

The score is the cosine between CLAP's vectors of audio and caption. AutoCap listens with the same CLAP, so the vector
of the audio is at hand and only the caption is new. The released sets of the paper are cut at 0.1, 0.4 and 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autorecap.base.settings import MODEL, Section, check, setting
from autorecap.stages.captions import CaptionsConfig
from autorecap.stages.inference import hub
from autorecap.stages.inference.batches import At, groups, with_clips
from autorecap.stages.records import Clip, Verdict, Video

AUTO, OWN = "auto", "own"
_BATCH_TEXTS = 256


@dataclass(frozen=True, kw_only=True)
class ScoresConfig(Section, name="scores"):
    """Settings of the scores stage: which text branch scores, and which score is too low."""

    text_model: str = setting(
        AUTO,
        "The text branch of the CLAP that the captioner listens with: a folder or hub id, of a whole CLAP or of its "
        "text branch; 'own': clap_text in the captioner's folder; 'auto': own, if there is one; empty: no scores.",
        path=MODEL,
    )
    min_score: float | None = setting(
        None,
        "Kept clips with a lower score are dropped; null keeps all. The released sets are cut at 0.1, 0.4, 0.5.",
        results=True,
        ge=-1,
        le=1,
    )

    def validate(self) -> None:
        check(
            self.min_score is None or bool(self.text_model),
            "scores.min_score",
            "needs scores, but scores.text_model is empty: name one",
        )


class Scores:
    """Gives every kept clip its `clap_score`. A video ends where `min_score` drops all its clips."""

    name = "scores"

    def __init__(self, config: ScoresConfig, text_model: Path, device: str) -> None:
        from autorecap.models.clap import ClapText

        self.config = config
        self.across_videos = device != "cpu"
        self.model = ClapText.from_pretrained(text_model).to(device)

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        scored: dict[At, Clip] = {}
        for group in groups(videos, _to_score, across_videos=self.across_videos):
            clips = [videos[v].clips[c] for v, c in group]
            vectors = self._vectors(sorted({clip.caption for clip in clips}))
            scored.update((at, _scored(clip, vectors[clip.caption])) for at, clip in zip(group, clips, strict=True))
        return [video.map_clips(self._judge).ended_if_none_kept() for video in with_clips(videos, scored)]

    def _vectors(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        parts = [texts[i : i + _BATCH_TEXTS] for i in range(0, len(texts), _BATCH_TEXTS)]
        return {
            text: vector
            for part in parts
            for text, vector in zip(part, self.model.embed(part).cpu().numpy(), strict=True)
        }

    def _judge(self, clip: Clip) -> Clip:
        """Drop the clip where its score is too low, also where the score came with the clip."""
        score, lowest = clip.clap_score, self.config.min_score
        if lowest is None or score is None or score >= lowest:
            return clip
        return clip.dropped(Verdict.LOW_SCORE, f"clap_score {score:g}")


def _scored(clip: Clip, text_P: np.ndarray) -> Clip:
    score = round(float(np.frombuffer(clip.clap_audio or b"", "<f4") @ text_P), 4)
    return replace(clip, clap_score=score, clap_audio=None)


def _to_score(clip: Clip) -> bool:
    return clip.verdict is Verdict.KEPT and clip.clap_audio is not None


# --- files


def text_model(config: ScoresConfig, captions: CaptionsConfig) -> Path | None:
    """Return the folder of the text branch; None where clips get no scores.

    A model of the hub is downloaded. Raises SettingError that names the file where one is missing or damaged, where the
    branch belongs to another CLAP than the captioner's, and where a minimum is set but nothing scores.
    """
    from autorecap.models import clap, files
    from autorecap.models.autocap import pretrained

    if not config.text_model:
        return None
    with hub.blamed_on("scores.text_model"):
        captioner = pretrained.find(captions.model)
        if config.text_model in (AUTO, OWN):
            folder = _own_text_model(captions.model)
        else:
            folder = files.find(config.text_model, clap.FILES)
        if folder is None:
            check(
                config.text_model == AUTO and config.min_score is None,
                "scores.text_model",
                f"is {config.text_model!r} and scores.min_score {config.min_score}, but the captioner {captioner} "
                f"has no {clap.TEXT_FOLDER} to score with: name the text branch of its CLAP, or set min_score to null "
                "and text_model to ''",
            )
            return None
        expected_width = pretrained.read_config(captioner / files.CONFIG).clap_width
        width = clap.read_text_config(folder / files.CONFIG).joint_width
        check(
            width == expected_width,
            "scores.text_model",
            f"{folder} gives vectors of {width} numbers, the captioner's CLAP of {expected_width}: take the text "
            "branch of the same CLAP",
        )
        clap.ClapText.check_pretrained(folder)
    return folder


def resolved(config: ScoresConfig, captions: CaptionsConfig) -> ScoresConfig:
    """Return the settings with 'auto' replaced by what the driver finds.

    The driver decides once, so that a worker which cannot see the branch fails and does not go without.
    """
    if config.text_model != AUTO:
        return config
    return replace(config, text_model=OWN if text_model(config, captions) else "")


def text_model_files(folder: Path) -> list[Path]:
    """Return the files that decide about a score, for the fingerprint of a dataset."""
    from autorecap.models import clap

    return [folder / name for name in clap.FILES]


def _own_text_model(captioner: str) -> Path | None:
    from autorecap.models import clap, files
    from autorecap.models.autocap import pretrained

    try:
        return pretrained.find_clap_text(captioner)
    except files.ModelFilesError:
        if (pretrained.find(captioner) / clap.TEXT_FOLDER).is_dir():  # it exists, but is damaged
            raise
        return None
