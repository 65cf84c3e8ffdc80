"""`autorecap encode`, and training data that was encoded: the same keys, the same numbers, nothing of another model.

Also proves pipeline/latents/encoder.py, dataset/latent_samples.py, the format, and the command, cli/encode.py.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from typer.testing import CliRunner

from autorecap.base.errors import REFUSED, Refused
from autorecap.cli import app
from autorecap.dataset.log import read_state
from autorecap.dataset.reading.clips import DataError, Latent
from autorecap.dataset.reading.manifest import open_manifest
from autorecap.dataset.sql import BadQuery
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView, NoSuchClip
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.model import GenAu
from autorecap.models.genau.vae.model import VAE
from autorecap.pipeline.latents.encode import encode
from autorecap.pipeline.latents.encoder import EncodeConfig
from autorecap.training.autocap.recipe import AutoCapTraining, train_autocap
from autorecap.training.data_checks import check_latents, latent_sets, scale_factor
from autorecap.training.genau.recipe import GenAuTraining, train_genau
from autorecap.training.loop.config import LoopConfig
from autorecap.training.vae.recipe import VAETraining, train_vae
from tests.support.datasets import Growing, audio_of, open_clips


@pytest.fixture(scope="module")
def genau(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "genau"
    model = GenAu.new("demo", seed=1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def dataset(tmp_path) -> Growing:
    growing = Growing(str(tmp_path / "clips"))
    growing.add(range(0, 2))
    growing.add(range(2, 5), seconds=2.5)
    return growing


def run(dataset: Growing, model: Path, out: object, **options: Any):
    lines: list[str] = []
    return encode(dataset.url, model, str(out), EncodeConfig(batch_size=4, **options), say=lines.append), lines


def test_a_latent_is_what_the_model_makes_of_the_clip(dataset, genau, tmp_path):
    outcome, _ = run(dataset, genau, tmp_path / "latents", dtype="fp32")
    assert (outcome.clips, outcome.shards, outcome.exit_code) == (5, 2, 0)
    model = GenAu.from_pretrained(genau)
    audio, latents = open_clips(dataset.url), open_clips(str(tmp_path / "latents"))
    by_name = {latents[i].name: latents[i] for i in range(len(latents))}
    assert sorted(by_name) == sorted(audio[i].name for i in range(len(audio)))
    for i in range(len(audio)):
        clip = audio[i]
        found = by_name[clip.name]
        assert (found.captions, found.title, found.seconds) == (clip.captions, clip.title, clip.seconds)
        latent = found.load(10.24, 0.0)
        assert isinstance(latent, Latent)
        waveform, rate = audio_of(clip, 10.24, 0.0)
        (expected,) = model.encode_audio([waveform], rate)
        torch.testing.assert_close(torch.from_numpy(latent.mean_CT), expected, atol=1e-4, rtol=1e-4)
        assert latent.logvar_CT.shape == latent.mean_CT.shape
        text: Any = model.text
        (summary,) = text.encode(clip.captions).summary_BW
        torch.testing.assert_close(torch.from_numpy(latent.summary_W), summary, atol=1e-5, rtol=1e-5)


def test_the_scale_is_that_of_the_whole_set(dataset, genau, tmp_path):
    run(dataset, genau, tmp_path / "latents", dtype="fp32")
    manifest = open_manifest([str(tmp_path / "latents")], where="row = 1")
    whole = open_clips(str(tmp_path / "latents"))
    latents = [whole[i].load(10.24, 0) for i in range(5)]
    mean = np.concatenate([latent.mean_CT.ravel() for latent in latents])
    variance = np.concatenate([np.exp(latent.logvar_CT.ravel()) for latent in latents])
    rng = np.random.default_rng(0)
    drawn = [mean + np.sqrt(variance) * rng.standard_normal(len(mean)) for _ in range(200)]
    assert len(manifest) == 1
    assert scale_factor(latent_sets(manifest)) == pytest.approx(1 / np.std(drawn), rel=0.01)


def test_what_was_encoded_is_not_encoded_again_and_what_is_new_is(dataset, genau, tmp_path):
    out = tmp_path / "latents"
    run(dataset, genau, out)
    before = sorted(path.name for path in out.rglob("*.tar"))
    commits = len(list((out / "commits").iterdir()))
    again, _ = run(dataset, genau, out)
    assert (again.shards, again.already) == (0, 2)
    assert len(list((out / "commits").iterdir())) == commits
    dataset.add(range(5, 6))
    grown, _ = run(dataset, genau, out)
    assert (grown.clips, grown.shards, grown.already) == (1, 1, 2)
    assert set(before) < {path.name for path in out.rglob("*.tar")}
    assert len(open_clips(str(out))) == 6


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_shards(dataset, genau, tmp_path):
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(dataset.url, genau, str(tmp_path / "stopped"), EncodeConfig(batch_size=4), say=stop)
    store = open_store(str(tmp_path / "stopped"))
    assert len(read_state(store).names("ledger")) == 1
    outcome, _ = run(dataset, genau, tmp_path / "stopped")
    assert (outcome.shards, outcome.already) == (1, 1)
    run(dataset, genau, tmp_path / "whole")
    for name in ("shards", "index"):
        assert sorted(p.name for p in (tmp_path / "stopped" / name).iterdir()) == sorted(
            p.name for p in (tmp_path / "whole" / name).iterdir()
        )


def test_a_long_clip_lies_in_pieces_each_as_if_it_were_alone(genau, tmp_path):
    growing = Growing(str(tmp_path / "clips"))
    growing.add(range(1), seconds=5.3)
    run(growing, genau, tmp_path / "latents", dtype="fp32", max_seconds=2.56)
    (clip,) = (open_clips(str(tmp_path / "latents"))[i] for i in range(1))
    pieces = [clip.load(2.56, share) for share in (0.0, 0.49, 0.5, 0.99)]
    assert [piece.mean_CT.shape[1] for piece in pieces] == [64] * 4  # the rest of 0.18 s is left out
    assert np.array_equal(pieces[0].mean_CT, pieces[1].mean_CT)
    assert not np.array_equal(pieces[1].mean_CT, pieces[2].mean_CT)
    waveform, rate = audio_of(open_clips(growing.url)[0], 10.0, 0.0)
    alone = waveform[:, round(2.56 * rate) : round(5.12 * rate)]
    (expected,) = GenAu.from_pretrained(genau).encode_audio([alone], rate)
    torch.testing.assert_close(torch.from_numpy(pieces[3].mean_CT), expected, atol=1e-4, rtol=1e-4)


def test_pieces_longer_than_the_generator_makes_are_refused(dataset, genau, tmp_path):
    with pytest.raises(DataError, match=r"--max-seconds 60: .* makes 10\.24 s at most"):
        run(dataset, genau, tmp_path / "latents", max_seconds=60)


def test_half_precision_takes_half_the_room_and_loses_little(dataset, genau, tmp_path):
    run(dataset, genau, tmp_path / "fp32", dtype="fp32")
    run(dataset, genau, tmp_path / "fp16")
    exact: Any = open_clips(str(tmp_path / "fp32"))
    half: Any = open_clips(str(tmp_path / "fp16"))
    assert half.num_bytes < 0.6 * exact.num_bytes
    named = {half[i].name: half[i].load(10.0, 0) for i in range(5)}
    for i in range(5):
        np.testing.assert_allclose(named[exact[i].name].mean_CT, exact[i].load(10.0, 0).mean_CT, rtol=1e-3, atol=1e-3)


def test_latents_of_another_vae_and_texts_of_other_encoders_are_refused(dataset, genau, tmp_path):
    run(dataset, genau, tmp_path / "latents")
    manifest = open_manifest([str(tmp_path / "latents")])
    model = GenAu.from_pretrained(genau)
    own, text = model.vae.digest(), model.text.digest()
    check_latents(manifest, vae=own, text=text, max_frames=256)
    other = GenAu.new("demo", seed=2)
    with pytest.raises(DataError, match=r"holds latents of another VAE .*autorecap encode --data .*clips"):
        check_latents(manifest, vae=other.vae.digest(), text=text)
    with pytest.raises(DataError, match="holds texts of other encoders"):
        check_latents(manifest, vae=own, text=other.text.digest())
    with pytest.raises(DataError, match=r"pieces of 256 latent frames, more than the 64 .*--max-seconds 2\.56"):
        check_latents(manifest, vae=own, max_frames=64)
    with pytest.raises(DataError, match="some of the data are latents and some is audio"):
        latent_sets(open_manifest([str(tmp_path / "latents"), dataset.url]))


def test_data_to_validate_on_is_checked_before_the_first_step(dataset, genau, tmp_path):
    """For what would be found out a thousand steps later, or never: losses of another VAE's latents."""
    run(dataset, genau, tmp_path / "latents")
    GenAu.new("demo", seed=2).save_pretrained(tmp_path / "other")
    latents, loop = [str(tmp_path / "latents")], LoopConfig(steps=1, batch_size=1)

    def refused(message: str, train, config, data, **options) -> None:
        with pytest.raises(DataError, match=message):
            train(config, data, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()

    clips = [dataset.url]
    other = {"init": str(tmp_path / "other"), "validation_data": latents}
    refused("holds latents of another VAE", train_genau, GenAuTraining(loop=loop), clips, **other)
    for train, config in ((train_vae, VAETraining(loop=loop)), (train_autocap, AutoCapTraining(loop=loop))):
        refused("latents holds latents, and this model learns from audio", train, config, latents, init="demo")
        told = {"init": "demo", "validation_data": latents}
        refused("latents holds latents, and this model learns from audio", train, config, clips, **told)


def test_a_clip_of_latents_has_no_sound_and_their_tables_are_named(dataset, genau, tmp_path):
    run(dataset, genau, tmp_path / "latents")
    view = DatasetView(str(tmp_path / "latents"))
    (row, *_) = view.rows("select key from clips")
    with pytest.raises(NoSuchClip, match="holds latents and no sound"):
        view.clip(row["key"])
    with pytest.raises(BadQuery, match="The tables are clips and shards"):
        view.rows("select * from videos")


def test_a_place_that_was_encoded_otherwise_is_refused_with_the_difference(dataset, genau, tmp_path, monkeypatch):
    run(dataset, genau, tmp_path / "latents")
    with pytest.raises(Refused, match="dtype: fp16 -> fp32"):
        run(dataset, genau, tmp_path / "latents", dtype="fp32")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="dtype: fp16 -> fp32") as refused:
        encode("clips", genau, "latents", EncodeConfig(dtype="fp32"))
    assert "data:" not in str(refused.value), "the same by another name"
    GenAu.new("demo", seed=2).save_pretrained(tmp_path / "other")
    with pytest.raises(Refused, match="vae: "):
        run(dataset, tmp_path / "other", tmp_path / "latents")
    with pytest.raises(Refused, match="is a dataset of clips, and this is about latents: name another --out"):
        run(dataset, genau, dataset.url)
    with pytest.raises(DataError, match="holds latents: name the dataset of clips"):
        encode(str(tmp_path / "latents"), genau, str(tmp_path / "more"))


def test_a_vae_alone_encodes_without_texts_and_is_the_one_of_the_generator(dataset, genau, tmp_path):
    vae = VAE.from_pretrained(genau)
    vae.save_pretrained(tmp_path / "vae")
    assert VAE.from_pretrained(tmp_path / "vae").digest() == vae.digest() == GenAu.from_pretrained(genau).vae.digest()
    run(dataset, tmp_path / "vae", tmp_path / "latents")
    assert open_clips(str(tmp_path / "latents"))[0].load(10.0, 0).summary_W is None
    (tmp_path / "vae" / "config.json").write_text('{"format": "autocap/1"}')
    with pytest.raises(ModelFilesError, match=r"config\.json"):
        VAE.from_pretrained(tmp_path / "vae")
    with pytest.raises(DataError, match="no such folder"):
        run(dataset, tmp_path / "nothing", tmp_path / "more")


def test_clips_that_cannot_be_read_are_left_out_and_named_and_a_shard_of_them_alone_is_not_committed(
    dataset, genau, tmp_path
):
    dataset.damage(3)
    outcome, lines = run(dataset, genau, tmp_path / "latents")
    assert outcome.clips == 4 and outcome.exit_code == 1
    assert any("v3_0_2500" in line for line in lines)
    rows = DatasetView(str(tmp_path / "latents")).rows("select * from shards order by num_clips")
    assert [(r["num_clips"], r["num_encoded"]) for r in rows] == [(2, 2), (3, 2)]
    assert rows[1]["unreadable"][0]["key"] == "v3_0_2500"
    shard = sorted(Path(dataset.url, "shards").glob("*.tar"))[0]
    shutil.copy(shard, tmp_path / "copy.tar")
    shard.unlink()
    with pytest.raises(DataError, match=r"none of its \d clips can be read: restore it"):
        run(dataset, genau, tmp_path / "other")


def test_the_command_encodes_to_s3_and_any_reader_of_webdataset_reads_it(dataset, genau, tmp_path, s3_bucket):
    out = f"{s3_bucket}/latents"
    told = CliRunner().invoke(
        app, ["encode", "--data", dataset.url, "--model", str(genau), "--out", out, "--device", "cpu", "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout.splitlines()[-1])["clips"] == 5
    store = open_store(out)
    assert json.loads(store.read("dataset.json"))["settings"]["vae"] == VAE.from_pretrained(genau).digest()
    name = next(name for name in read_state(store).names("shards") if name.endswith(".tar"))
    Path(tmp_path / "one.tar").write_bytes(store.read(name))
    samples = list(webdataset.WebDataset(str(tmp_path / "one.tar"), shardshuffle=False))
    for sample in samples:
        meta = json.loads(sample["json"])
        assert meta["key"] == sample["__key__"] and meta["num_frames"] >= 25
        assert sample["safetensors"][8:9] == b"{"
    clips = open_clips(out)
    assert np.isfinite(clips[4].load(10.0, 0.0).mean_CT).all()
    refused = CliRunner().invoke(app, ["encode", "--data", dataset.url, "--model", str(genau), "--out", dataset.url])
    assert refused.exit_code == REFUSED
