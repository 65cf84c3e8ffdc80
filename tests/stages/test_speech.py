"""The probability of speech, by any audio classifier of transformers.

Also proves stages/inference/hub.py, which finds the models that users name.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from autorecap.base.settings_files import SettingsError
from autorecap.dataset.fingerprint import fingerprint
from autorecap.pipeline.build.config import identity, load_config
from autorecap.stages.records import Clip, Verdict, Video
from autorecap.stages.speech import Speech, SpeechConfig, find_model

LABELS = {0: "Rain", 1: "Speech", 2: "Dog"}
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
RATE = 32_000


def ast() -> tuple[torch.nn.Module, object]:
    config = ASTConfig(**SMALL, max_length=128, num_mel_bins=32, id2label=LABELS, initializer_range=0.5)
    return ASTForAudioClassification(config), ASTFeatureExtractor(num_mel_bins=32, max_length=128)


def wav2vec2() -> tuple[torch.nn.Module, object]:
    sizes: dict[str, Any] = {"num_feat_extract_layers": 3, **SMALL}  # of which the first is in no stub
    config = Wav2Vec2Config(
        **sizes, conv_dim=(16,) * 3, conv_stride=(10, 8, 4), conv_kernel=(10, 8, 4),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, id2label=LABELS, initializer_range=0.5,
    )  # fmt: skip
    return Wav2Vec2ForSequenceClassification(config), Wav2Vec2FeatureExtractor()


@pytest.fixture(scope="module", params=[ast, wav2vec2])
def model(request, tmp_path_factory) -> Path:
    """A tiny, untrained classifier, and its feature extractor."""
    folder = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    for part in request.param():
        part.save_pretrained(folder)
    return folder


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 0.1).astype(np.float32)


def clip(seconds: float, seed: int = 0, verdict: Verdict = Verdict.KEPT) -> Clip:
    audio = (noise(seconds, seed) * 32767).astype("<i2").tobytes()
    return Clip(start_ms=0, end_ms=round(seconds * 1000), audio=audio, sample_rate_hz=RATE, verdict=verdict)


def test_kept_clips_get_a_probability_and_keep_their_audio(model):
    stage = Speech(SpeechConfig(model=str(model)), "cpu")
    clips = clip(2), clip(3, seed=1), clip(2).dropped(Verdict.KEYWORD), clip(2, verdict=Verdict.PENDING)
    (video,) = stage([Video(row=0, video_id="v", clips=clips)])
    found = [c.speech_probability for c in video.clips]
    assert found[2:] == [None, None] and all(p is not None and 0 <= p <= 1 for p in found[:2])
    assert [c.audio for c in video.clips] == [c.audio for c in clips]
    alone = stage([Video(row=0, video_id="w", clips=(clips[1],))])[0].clips[0].speech_probability
    assert alone == found[1]


def test_a_long_clip_counts_by_the_part_that_sounds_most_like_speech(model):
    stage = Speech(SpeechConfig(model=str(model)), "cpu")
    parts = [noise(10, seed) for seed in range(3)]
    together = stage.probability(np.concatenate(parts), RATE)
    assert together == pytest.approx(max(stage.probability(part, RATE) for part in parts), abs=0.02)


def test_labels_that_exclude_each_other_share_one_probability(model):
    shares = [
        Speech(SpeechConfig(model=str(model), label=label, one_label_per_clip=True), "cpu").probability(noise(2), RATE)
        for label in LABELS.values()
    ]
    assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_the_fingerprint_follows_the_model_and_the_label(model):
    def of(*overrides):
        return fingerprint(identity(load_config(None, overrides)))

    on = f"speech.model={model}"
    assert len({of(), of(on), of(on, "speech.label=Dog"), of(on, "speech.one_label_per_clip=true")}) == 4


def test_a_label_that_the_model_does_not_have_is_refused_with_those_it_has(model):
    with pytest.raises(ValueError, match=r"speech\.label: expected a label of .*, Rain, Speech, Dog, found 'Talk'"):
        find_model(SpeechConfig(model=str(model), label="Talk"))


def test_what_is_no_audio_classifier_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"speech\.model: /nowhere: no such folder"):
        identity(load_config(None, ["speech.model=/nowhere"]))
    with pytest.raises(SettingsError, match="holds no model of transformers"):
        identity(load_config(None, [f"speech.model={tmp_path}"]))
