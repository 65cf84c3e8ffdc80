"""Scores: how well captions fit, as CLAP sees it; what is too low is dropped and listed."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autorecap.base.settings_files import SettingsError
from autorecap.cli.build import _announce as announce
from autorecap.dataset.fingerprint import fingerprint
from autorecap.dataset.log import read_state
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.demo.corpus import CORPUS, synthesise_corpus
from autorecap.demo.sounds import synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.autocap import AutoCap, CaptionTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.pipeline.build.bundle_writer import ledger_row
from autorecap.pipeline.build.config import identity, load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.build.local_flow import LocalFlow
from autorecap.pipeline.plan.sources import FolderSource
from autorecap.stages.captions import Captions, CaptionsConfig
from autorecap.stages.merge import Merge
from autorecap.stages.records import Clip, Verdict, Video, from_table, to_table
from autorecap.stages.scores import Scores, ScoresConfig, resolved, text_model

WIDTH = 64


@pytest.fixture(scope="module")
def captioner(tmp_path_factory) -> Path:
    """The bundled captioner's files alone, with an untrained text branch beside them."""
    folder = tmp_path_factory.mktemp("model") / "captioner"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(AutoCap.DEMO / name, folder)
    torch.manual_seed(0)
    tokenizer = CaptionTokenizer.load(folder / "tokenizer.json")
    ClapText(TEXT_SIZES["demo"], tokenizer).save_pretrained(folder / "clap_text")
    return folder


@pytest.fixture
def text(captioner) -> ClapText:
    return ClapText.from_pretrained(captioner / "clap_text")


def vector(seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(WIDTH).astype("<f4")
    return x / np.linalg.norm(x)


def clip(start_s=0, seconds=5, caption="Rain falls", seed=0, verdict=Verdict.KEPT) -> Clip:
    times = {"start_ms": start_s * 1000, "end_ms": (start_s + seconds) * 1000}
    audio = bytes(2 * 100 * seconds)
    known = {"audio": audio, "sample_rate_hz": 100, "num_samples": 100 * seconds}
    return Clip(**times, **known, caption=caption, clap_audio=vector(seed).tobytes(), verdict=verdict)


def scored(captioner, *clips, **settings) -> Video:
    (video,) = Scores(ScoresConfig(**settings), captioner / "clap_text", "cpu")(
        [Video(row=0, video_id="v", num_clips=len(clips), clips=clips)]
    )
    return video


def test_the_score_is_the_cosine_of_the_vectors_of_audio_and_caption(captioner, text):
    clips = [clip(seed=i, caption=caption) for i, caption in enumerate(["Rain falls", "A dog barks", "Rain falls"])]
    video = scored(captioner, *clips)
    expected = [float(vector(i) @ text.embed([c.caption])[0].numpy()) for i, c in enumerate(clips)]
    assert [c.clap_score for c in video.clips] == pytest.approx(expected, abs=6e-5)
    assert len(set(expected)) == 3
    assert [c.clap_audio for c in video.clips] == [None] * 3


def test_only_kept_clips_with_a_vector_are_scored(captioner):
    dropped = clip(verdict=Verdict.PENDING).dropped(Verdict.KEYWORD, "talk")
    video = scored(captioner, clip(), dropped, replace(clip(10), clap_audio=None), min_score=-1.0)
    assert [c.clap_score is None for c in video.clips] == [False, True, True]
    assert [c.verdict for c in video.clips] == [Verdict.KEPT, Verdict.KEYWORD, Verdict.KEPT]


def test_a_joined_clip_has_the_mean_of_its_parts_scores_by_duration(captioner):
    parts = [clip(0, 9, seed=1, verdict=Verdict.PENDING), clip(9, 3, seed=2, verdict=Verdict.PENDING)]
    alone: list[Any] = [scored(captioner, replace(part, verdict=Verdict.KEPT)).clips[0].clap_score for part in parts]
    (video,) = Merge()([Video(row=0, video_id="v", clips=tuple(parts))])
    (joined,) = video.clips
    score = scored(captioner, replace(joined, verdict=Verdict.KEPT)).clips[0].clap_score
    assert score == pytest.approx((9 * alone[0] + 3 * alone[1]) / 12, abs=2e-4)


def scores_of(clips: Iterable[Clip]) -> list[float]:
    return sorted(clip.clap_score for clip in clips if clip.clap_score is not None)


def test_what_scores_too_low_is_dropped_with_its_score_and_counted(captioner):
    clips = [clip(10 * i, seed=i) for i in range(4)]
    scores = scores_of(scored(captioner, *clips).clips)
    video = scored(captioner, *clips, min_score=scores[2])
    assert scores_of(c for c in video.clips if c.verdict is Verdict.KEPT) == scores[2:]
    low = [c for c in video.clips if c.verdict is Verdict.LOW_SCORE]
    assert {c.keyword for c in low} == {f"clap_score {score:g}" for score in scores[:2]}
    assert all(c.audio is None for c in low)
    row = ledger_row(video)
    assert (row["num_kept"], row["num_low_score"], row["num_keyword"]) == (2, 2, 0)


def test_a_video_without_a_good_clip_ends_and_says_why(captioner):
    video = scored(captioner, clip(), clip(10), min_score=1.0)
    assert video.reason == "all_clips_filtered" and video.detail.startswith("2 clips: 2 low_score (clap_score ")
    assert [c.clap_score is None for c in video.clips] == [False, False]


def test_the_vector_never_crosses_to_another_pool():
    (video,) = from_table(to_table([Video(row=0, video_id="v", clips=(clip(),))]))
    assert video.clips[0].clap_audio is None and video.clips[0].audio


def test_the_captions_stage_hands_over_what_its_own_clap_heard(captioner):
    x = synthesise("rain", 3, np.random.default_rng(0)) * 0.5
    audio = (x * 32767).astype("<i2").tobytes()
    heard = Clip(start_ms=0, end_ms=3000, audio=audio, sample_rate_hz=SAMPLE_RATE_HZ, num_samples=len(x))
    config = CaptionsConfig(model=str(captioner))
    (video,) = Captions(config, keep_clap=True)([Video(row=0, video_id="v", clips=(heard,))])
    model = AutoCap.from_pretrained(captioner)
    with torch.inference_mode():
        samples = np.frombuffer(audio, "<i2").astype(np.float32) / 32768
        expected = model.hear(model.features(model.prepare([samples], SAMPLE_RATE_HZ))).clap[0].numpy()
    np.testing.assert_allclose(np.frombuffer(video.clips[0].clap_audio or b"", "<f4"), expected, atol=1e-5)
    (plain,) = Captions(config)([Video(row=0, video_id="v", clips=(heard,))])
    assert plain.clips[0].caption == video.clips[0].caption and plain.clips[0].clap_audio is None


# --- which text branch


def branch(model: str | Path, **settings) -> Path | None:
    return text_model(ScoresConfig(**settings), CaptionsConfig(model=str(model)))


def without_branch(captioner, tmp_path) -> Path:
    return Path(shutil.copytree(captioner, tmp_path / "bare", ignore=shutil.ignore_patterns("clap_text")))


def test_the_captioners_own_text_branch_scores_unless_another_is_named(captioner, tmp_path):
    own = captioner / "clap_text"
    assert branch(captioner) == branch(captioner, text_model="own") == own
    assert resolved(ScoresConfig(min_score=0.1), CaptionsConfig(model=str(captioner))).text_model == "own"
    assert branch(captioner, text_model="") is None
    other = Path(shutil.copytree(own, tmp_path / "other"))
    assert branch(captioner, text_model=str(other)) == other


def test_a_captioner_without_a_text_branch_gives_no_scores_unless_they_are_needed(captioner, tmp_path):
    bare = without_branch(captioner, tmp_path)
    assert branch(bare) is None
    assert resolved(ScoresConfig(), CaptionsConfig(model=str(bare))).text_model == ""
    with pytest.raises(ValueError, match=r"'auto' and scores\.min_score 0\.1, but the captioner .* has no clap_text"):
        branch(bare, min_score=0.1)
    with pytest.raises(ValueError, match=r"scores\.text_model: is 'own' .* has no clap_text"):
        branch(bare, text_model="own")
    with pytest.raises(ValueError, match=r"scores\.min_score: needs scores"):
        ScoresConfig(text_model="", min_score=0.1)
    with pytest.raises(ValueError, match=r"scores\.min_score: expected -1 to 1, found 10"):
        ScoresConfig(min_score=10)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_branch_that_is_not_whole_is_refused_by_the_name_of_the_file(captioner, tmp_path, name):
    model = Path(shutil.copytree(captioner, tmp_path / "model"))
    (model / "clap_text" / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=rf"scores\.text_model: .*{name}"):
        branch(model)
    (model / "clap_text" / name).unlink()
    with pytest.raises(ValueError, match=rf"scores\.text_model: .*{name} is missing"):
        branch(model)


def test_the_branch_of_another_clap_is_refused(captioner, tmp_path):
    model = Path(shutil.copytree(captioner, tmp_path / "model"))
    values = json.loads((model / "clap_text" / "config.json").read_text())
    (model / "clap_text" / "config.json").write_text(json.dumps(values | {"projection_dim": 512}))
    with pytest.raises(ValueError, match=r"gives vectors of 512 numbers, the captioner's CLAP of 64"):
        branch(model)


def test_a_captioner_of_the_hub_brings_its_branch_or_has_none(captioner, tmp_path, monkeypatch):
    """The hub's own client, with a cache that holds two models and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, files in (("with", captioner), ("bare", without_branch(captioner, tmp_path))):
        snapshot = tmp_path / f"models--owner--{name}" / "snapshots" / ("0" * 40)
        shutil.copytree(files, snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    assert branch("owner/with") == tmp_path / "models--owner--with" / "snapshots" / ("0" * 40) / "clap_text"
    assert branch("owner/bare") is None


def test_the_fingerprint_follows_the_text_branch_and_the_minimum(captioner, tmp_path):
    def of(*overrides):
        return fingerprint(identity(load_config(None, [f"captions.model={captioner}", *overrides])))

    copy = shutil.copytree(captioner / "clap_text", tmp_path / "copy")
    assert of() == of(f"scores.text_model={copy}")
    assert len({of(), of("scores.text_model=''"), of("scores.min_score=0.1")}) == 3
    with pytest.raises(SettingsError, match=r"scores\.text_model: /nowhere"):
        of("scores.text_model=/nowhere")


# --- the whole way


def test_a_build_stores_scores_and_gives_the_same_bytes_however_videos_are_grouped(captioner, tmp_path):
    videos = tmp_path / "videos"
    synthesise_corpus(
        videos, [video for video in CORPUS if video.name in ("oldEngine_7", "rainOnRoof1", "radioJingle")]
    )
    config = load_config(None, [f"captions.model={captioner}", "writer.videos_per_shard=3"])

    def built(out: Path, group: int) -> DatasetView:
        grouped = replace(config, pools=replace(config.pools, block_videos=group))
        job = prepare(FolderSource(str(videos)), str(out), grouped)
        run(job, LocalFlow(grouped, job.store), lambda outcome, total: None)
        return DatasetView(str(out))

    view = built(tmp_path / "a", 1)
    clips = view.rows("select key, caption, clap_score, speech_probability, end_ms - start_ms as ms from clips")
    assert len(clips) >= 4 and all(-1 <= c["clap_score"] <= 1 for c in clips)
    assert max(c["ms"] for c in clips) > 10_000  # some were joined
    assert {c["speech_probability"] for c in clips} == {None}
    for c in clips:
        assert view.clip(c["key"]).meta["clap_score"] == c["clap_score"]
    built(tmp_path / "b", 3)
    shards, again = ([*read_state(open_store(str(tmp_path / out))).names("shards")] for out in "ab")
    assert shards == again


def test_a_build_without_scores_says_so_once_at_its_start(captioner, tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.ogg").write_bytes(b"x")

    def said(model: Path, *overrides: str) -> int:
        config = load_config(None, [f"captions.model={model}", *overrides])
        announce(prepare(FolderSource(str(videos)), str(tmp_path / "out"), config))
        return capsys.readouterr().err.count("clap_score stays empty")

    bare = without_branch(captioner, tmp_path)
    assert [said(captioner), said(bare), said(bare, "scores.text_model=''")] == [0, 1, 0]
