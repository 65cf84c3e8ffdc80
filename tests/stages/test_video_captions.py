"""Captions of the picture: off unless a model is named; then one frame per clip becomes words that AutoCap reads."""

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="Pillow is an extra: pip install 'autorecap[pictures]'")
from PIL import Image
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from autorecap.base.settings_files import SettingsError
from autorecap.dataset.fingerprint import fingerprint
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS, encode, synthesise_corpus
from autorecap.models.autocap import AutoCap
from autorecap.pipeline.build.config import identity, load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.sources import FolderSource
from autorecap.stages.media import Media, MediaConfig
from autorecap.stages.media_files.ffmpeg import MediaError, ffmpeg_exe, frames
from autorecap.stages.records import Clip, Verdict, Video, from_table, to_table
from autorecap.stages.video_captions import VideoCaptions, VideoCaptionsConfig, find_model

SECONDS = 12
IDS: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}


def encoder_decoder() -> torch.nn.Module:
    encoder = ViTConfig(**SMALL, image_size=32, patch_size=8, initializer_range=1.0)
    decoder = GPT2Config(vocab_size=768, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5, **IDS)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 0, 1, 2
    return VisionEncoderDecoderModel(config)


def blip() -> torch.nn.Module:
    text = {**SMALL, "vocab_size": 768, "encoder_hidden_size": 32, "max_position_embeddings": 64, "sep_token_id": 2}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    return BlipForConditionalGeneration(BlipConfig(text_config=text | IDS, vision_config=vision, projection_dim=32))


@pytest.fixture(scope="module", params=[encoder_decoder, blip])
def model(request, tmp_path_factory) -> Path:
    """A tiny, untrained image-to-text model with the processor and tokenizer that belong in its folder."""
    folder = tmp_path_factory.mktemp("pictures")
    torch.manual_seed(0)
    request.param().save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(AutoCap.DEMO / "tokenizer.json"), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Noise, with a test picture that moves."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    encode(np.random.default_rng(0).standard_normal(32_000 * SECONDS).astype(np.float32) * 0.1, path, picture=True)
    return path


def video(path: Path, *spans: tuple[int, int], **more) -> Video:
    clips = tuple(Clip(start_ms=start, end_ms=end, **more) for start, end in spans)
    return Video(row=0, video_id="v", media=str(path), duration_ms=1000 * SECONDS, clips=clips)


def fetched(path: Path, *spans: tuple[int, int], **more) -> Video:
    return Media(MediaConfig(), with_frames=True)([video(path, *spans, **more)])[0]


# --- frames


def test_a_frame_is_fetched_from_the_middle_of_each_clip_only_when_wanted(film):
    spans = (0, 5_000), (5_000, 10_000)
    clips = fetched(film, *spans).clips
    pictures = [Image.open(io.BytesIO(clip.frame or b"")) for clip in clips]
    assert [picture.size for picture in pictures] == [(128, 96)] * 2
    assert frames(str(film), [2_500, 7_500], 20) == [clip.frame for clip in clips]
    assert clips[0].frame != clips[1].frame
    assert [clip.frame for clip in Media(MediaConfig())([video(film, *spans)])[0].clips] == [None, None]


def test_large_pictures_are_made_small_in_their_proportions(tmp_path):
    command = [ffmpeg_exe(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=1280x720:rate=5:duration=1"]
    subprocess.run([*command, "-c:v", "mpeg4", tmp_path / "wide.mp4"], check=True)
    (frame,) = frames(str(tmp_path / "wide.mp4"), [500], 20)
    assert frame is not None
    assert Image.open(io.BytesIO(frame)).size == (384, 216)
    assert len(frame) < 60_000


def test_sound_without_a_picture_has_no_frames_and_a_cover_is_none(tmp_path, film):
    noise = np.random.default_rng(0).standard_normal(32_000 * SECONDS).astype(np.float32) * 0.1
    encode(noise, tmp_path / "sound.ogg")
    assert [clip.frame for clip in fetched(tmp_path / "sound.ogg", (0, 5_000), (5_000, 9_000)).clips] == [None, None]
    (tmp_path / "cover.jpg").write_bytes(frames(str(film), [1_000], 20)[0])
    command = [ffmpeg_exe(), "-loglevel", "error", "-i", tmp_path / "sound.ogg", "-i", tmp_path / "cover.jpg"]
    command += ["-map", "0:a", "-map", "1:v", "-c:v", "copy", "-c:a", "aac", "-disposition:v", "attached_pic"]
    subprocess.run([*command, tmp_path / "cover.m4a"], check=True)
    done = fetched(tmp_path / "cover.m4a", (0, 5_000))
    assert done.is_ok and done.clips[0].audio and done.clips[0].frame is None


def test_a_clip_beyond_the_picture_or_with_a_caption_of_it_gets_no_frame(film):
    assert frames(str(film), [1_000, 60_000], 20)[1] is None
    assert fetched(film, (0, 5_000), video_caption="A dog runs").clips[0].frame is None


def test_frames_that_take_too_long_end_the_try(tmp_path, film, monkeypatch):
    slow = tmp_path / "ffmpeg"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr("autorecap.stages.media_files.ffmpeg.ffmpeg_exe", lambda: str(slow))
    with pytest.raises(MediaError, match="longer than") as caught:
        frames(str(film), [1_000, 2_000], 0.2)
    assert caught.value.timeout


# --- captions


def test_a_frame_becomes_the_caption_of_the_picture_and_is_dropped(model, film):
    stage = VideoCaptions(VideoCaptionsConfig(model=str(model), max_new_tokens=6), "cpu")
    seen = fetched(film, (0, 5_000), (5_000, 10_000))
    silent = seen.clips[1].dropped(Verdict.SILENT)
    blind = Clip(start_ms=10_000, end_ms=11_000, audio=b"\0\0")
    known = Clip(start_ms=11_000, end_ms=12_000, audio=b"\0\0", video_caption="A dog runs")
    (crossed,) = from_table(to_table([Video(row=0, video_id="v", clips=(seen.clips[0], silent, blind, known))]))
    (done,) = stage([crossed])
    assert [bool(clip.video_caption) for clip in done.clips] == [True, False, False, True]
    assert [clip.frame for clip in done.clips] == [None] * 4
    assert done.clips[0].video_caption == stage.caption([seen.clips[0].frame or b""])[0]


def test_a_caption_follows_the_picture_and_not_its_neighbours(model, film):
    stage = VideoCaptions(VideoCaptionsConfig(model=str(model), max_new_tokens=12), "cpu")
    pictures = []
    for colour in ("black", "white"):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 48), colour).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    pictures += [frame or b"" for frame in frames(str(film), [1_000, 6_000], 20)]
    together = stage.caption(pictures)
    assert [stage.caption([picture])[0] for picture in pictures] == together
    if "VisionEncoderDecoder" in type(stage.model).__name__:  # the other one, untrained, hardly looks
        assert len(set(together)) > 1


def test_the_whole_way_a_picture_is_captioned_and_stored(model, tmp_path):
    synthesise_corpus(tmp_path / "videos", [v for v in CORPUS if v.name in ("backyardDog", "rainOnRoof1")])
    config = load_config(None, [f"video_captions.model={model}", "video_captions.max_new_tokens=6"])
    job = prepare(FolderSource(str(tmp_path / "videos")), str(tmp_path / "out"), config)
    run(job, LocalFlow(config, job.store), lambda outcome, total: None)
    view = DatasetView(str(tmp_path / "out"))
    captions = {c["video_id"]: view.clip(c["key"]).meta["video_caption"] for c in view.rows("select * from clips")}
    assert captions["backyardDog"] and captions["rainOnRoof1"] == ""
    seconds = dict(view.rows("select seconds from videos where video_id = 'backyardDog'")[0]["seconds"])
    assert "video_captions" in seconds


# --- settings


def test_the_fingerprint_follows_the_model_and_without_one_nothing_is_fetched(model):
    def of(*overrides):
        return fingerprint(identity(load_config(None, overrides)))

    assert len({of(), of(f"video_captions.model={model}")}) == 2
    assert of() == of("video_captions.batch_frames=3")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere", r"video_captions\.model: /nowhere: no such folder"),
        ("{empty}", "holds no model of transformers"),
        ("{autocap}", r"video_captions\.model: .*"),
    ],
)
def test_what_is_no_image_to_text_model_is_refused_by_name(tmp_path, name, message):
    with pytest.raises(SettingsError, match=message):
        identity(load_config(None, [f"video_captions.model={name.format(empty=tmp_path, autocap=AutoCap.DEMO)}"]))


def test_a_model_of_another_task_is_refused(tmp_path):
    from transformers import ViTForImageClassification

    ViTForImageClassification(ViTConfig(**SMALL, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no image-to-text model"):
        find_model(VideoCaptionsConfig(model=str(tmp_path)))
