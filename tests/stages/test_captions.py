"""The captions stage: what is known of a model before it is loaded, and which clip gets which caption.

Also proves stages/inference/batches.py.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autorecap.demo.sentences import names
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap import AutoCap
from autorecap.models.files import WEIGHTS, read_weights, write_tensors
from autorecap.stages.captions import Captions, CaptionsConfig, model_files, window_ms
from autorecap.stages.records import Clip, Verdict, Video


@pytest.fixture
def model(tmp_path) -> Path:
    """A copy of the bundled model."""
    return Path(shutil.copytree(AutoCap.DEMO, tmp_path / "model"))


def test_the_window_is_known_before_the_model_is_loaded(model):
    (model / "model.safetensors").write_bytes(b"no weights")
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values | {"window_s": 7.5}))
    assert window_ms(CaptionsConfig(model=str(model))) == 7_500
    assert window_ms(CaptionsConfig()) == 10_000


def test_the_files_of_a_model_are_listed(model):
    names = [path.name for path in model_files(CaptionsConfig(model=str(model)))]
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]


def test_a_model_of_the_hub_is_found_before_the_work_or_refused(model, monkeypatch):
    """The hub's own client, with a cache that holds one model and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = model.parent / "cache" / "models--owner--name" / "snapshots" / ("0" * 40)
    shutil.copytree(model, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(model.parent / "cache"))
    assert model_files(CaptionsConfig(model="owner/name")) == [
        snapshot / path.name for path in model_files(CaptionsConfig())
    ]
    with pytest.raises(ValueError, match=r"captions\.model: nobody/nothing: no such folder, and the hub"):
        model_files(CaptionsConfig(model="nobody/nothing"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clap_in.bias": None}, "1 tensors are missing, the first is clap_in.bias"),
        ({"clap_in.bias": torch.zeros(3)}, "1 tensors are of another shape, the first is clap_in.bias"),
        ({"clap_in.bias": torch.full((128,), torch.nan)}, "the tensor clap_in.bias holds NaN"),
        ({"more": torch.zeros(3)}, "1 tensors are unknown, the first is more"),
    ],
)
def test_weights_that_the_model_could_not_load_are_refused_before_any_work(model, change, said):
    weights = read_weights(model / WEIGHTS) | change
    write_tensors(model / WEIGHTS, {name: tensor for name, tensor in weights.items() if tensor is not None})
    with pytest.raises(ValueError, match=rf"captions\.model: .*{said}"):
        model_files(CaptionsConfig(model=str(model)))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"{}", None])
def test_a_model_file_that_is_missing_or_broken_is_refused_by_name(model, name, damage):
    data = (model / name).read_bytes()
    if damage:
        (model / name).write_bytes(damage(data))
    else:
        (model / name).unlink()
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        model_files(CaptionsConfig(model=str(model)))


def test_a_config_that_is_no_autocap_config_has_no_window(model):
    (model / "config.json").write_text('{"format": "autocap/1", "windows": 3}')
    with pytest.raises(ValueError, match=r"config\.json.*windows"):
        window_ms(CaptionsConfig(model=str(model)))


SOUNDS = [("rain", 4.0), ("dog", 2.0), ("bell", 3.0), ("engine", 2.5)]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    made = []
    for kind, seconds in SOUNDS:
        x = synthesise(kind, seconds, np.random.default_rng(0)) * 0.5
        made.append(
            Clip(
                start_ms=0,
                end_ms=round(seconds * 1000),
                audio=(x * 32767).astype("<i2").tobytes(),
                sample_rate_hz=SAMPLE_RATE_HZ,
                num_samples=len(x),
            )
        )
    return made


def test_batches_may_span_videos_and_every_clip_gets_its_own_caption_back(clips):
    """As on a GPU, where batches are filled across videos."""
    quiet = replace(clips[0], rms_dbfs=-90.0)
    videos = [
        Video(row=0, video_id="a", title="A long title, so that clips are sorted", clips=(clips[0], quiet, clips[1])),
        Video(row=1, video_id="b", clips=(clips[2], clips[3])),
    ]
    stage = Captions(CaptionsConfig(batch_clips=3))
    assert not stage.across_videos  # on a CPU
    apart = stage(videos)
    stage.across_videos = True
    assert stage(videos) == apart
    heard = [clip for video in apart for clip in video.clips]
    assert heard[1].verdict is Verdict.SILENT and heard[1].audio is None
    for (kind, _), clip in zip(SOUNDS, [heard[0], *heard[2:]], strict=True):
        assert names(clip.caption, kind), (kind, clip.caption)


def test_a_clip_too_short_to_be_heard_stays_without_a_caption_and_does_no_harm(clips):
    short = replace(clips[1], end_ms=99, audio=clips[1].audio[: 2 * 3_168], num_samples=3_168)
    (video,) = Captions(CaptionsConfig())([Video(row=0, video_id="v", clips=(short, clips[0]))])
    assert video.clips[0] == short and names(video.clips[1].caption, "rain")


def test_captions_may_be_made_in_bfloat16(clips):
    (video,) = Captions(CaptionsConfig(precision="bfloat16"), keep_clap=True)(
        [Video(row=0, video_id="v", clips=tuple(clips))]
    )
    assert sum(names(clip.caption, kind) for (kind, _), clip in zip(SOUNDS, video.clips, strict=True)) >= 3
    for clip in video.clips:
        assert np.linalg.norm(np.frombuffer(clip.clap_audio or b"", "<f4")) == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match=r"captions\.precision: expected auto, float32 or bfloat16, found 'half'"):
        CaptionsConfig(precision="half")
