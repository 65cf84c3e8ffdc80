"""The speech stage: says how likely it is that somebody speaks in a kept clip. Off unless a model is named.

It gives a second opinion beside the keywords, which is stored with the clip and drops nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autorecap.base.settings import MODEL, Section, SettingError, check, setting
from autorecap.base.wav import from_pcm
from autorecap.stages.inference import hub
from autorecap.stages.records import Clip, Verdict, Video

WINDOW_MS = 10_000
"""How much audio a classifier hears at once (AST: 10.24 s). Of the equal parts of a longer clip the highest counts."""


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(Section, name="speech"):
    """Settings of the speech stage: which model listens for speech."""

    model: str = setting(
        "",
        "An audio classifier of transformers, such as an AST trained on AudioSet: a folder or hub id. Empty: off.",
        path=MODEL,
    )
    label: str = setting("Speech", "The label of the model that means speech.", results=True)
    one_label_per_clip: bool = setting(
        False,
        "On: the model's labels exclude each other (softmax). Off: several may hold at once (sigmoid), as in AudioSet.",
        results=True,
    )


class Speech:
    """Gives every kept clip its `speech_probability`."""

    name = "speech"

    def __init__(self, config: SpeechConfig, device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
        from transformers.utils import logging

        logging.disable_progress_bar()
        folder, self.index = find_model(config)
        self.config = config
        self.device = device
        # transformers' modules have no types
        self.extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        model: Any = AutoModelForAudioClassification.from_pretrained(folder, use_safetensors=True)
        self.model = model.to(device).eval()

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [video.map_clips(self._heard) for video in videos]

    def _heard(self, clip: Clip) -> Clip:
        if clip.verdict is not Verdict.KEPT or not clip.audio:
            return clip
        samples = from_pcm(clip.audio)
        return replace(clip, speech_probability=round(self.probability(samples, clip.sample_rate_hz), 4))

    def probability(self, samples: np.ndarray, sample_rate_hz: int) -> float:
        """Return the probability of speech in mono samples of any length, shape (S,)."""
        import torch

        from autorecap.models.audio import resample

        rate_hz = self.extractor.sampling_rate
        x_S = resample(torch.from_numpy(samples), sample_rate_hz, rate_hz).numpy()
        num_windows = -(-len(x_S) * 1000 // (WINDOW_MS * rate_hz))
        windows = np.array_split(x_S, num_windows)
        shortest = min(map(len, windows))  # they differ by one sample, and must not be padded
        features = self.extractor(
            [window[:shortest] for window in windows], sampling_rate=rate_hz, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            logits_BL = self.model(**features).logits.float()
        scores_BL = logits_BL.softmax(-1) if self.config.one_label_per_clip else logits_BL.sigmoid()
        return float(scores_BL[:, self.index].max())


def find_model(config: SpeechConfig) -> tuple[Path, int]:
    """Return the folder of the model, and the index of its output that means speech.

    A model of the hub is downloaded. Raises SettingError that names what is wrong.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING

    folder = hub.find(config.model, "speech.model")
    try:
        model = AutoConfig.from_pretrained(folder)
    except (ValueError, OSError) as error:
        raise SettingError("speech.model", f"{folder}: {error}") from error
    known = type(model) in MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
    check(known, "speech.model", f"{folder} is no audio classifier of transformers, such as an AST")
    labels = {str(label): int(index) for index, label in model.id2label.items()}
    some = ", ".join(list(labels)[:8]) + (", ..." if len(labels) > 8 else "")
    check(config.label in labels, "speech.label", f"expected a label of {folder}, {some}, found {config.label!r}")
    return folder, labels[config.label]
