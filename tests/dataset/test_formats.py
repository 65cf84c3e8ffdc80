"""Data that earlier versions wrote is still read, gone on with and trained from: one folder of it per version.

Each folder in `tests/vectors/formats/` was made by the code of its version, and its `expected.json` says what is in it.
Whoever changes a format adds a folder; none is ever edited. All work is done on copies.

The readers are dataset/view.py, dataset/log.py, dataset/reading/manifest.py and training/checkpoint/checkpoint.py.
"""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import struct
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import soundfile
import torch

from autorecap.base import settings_files as settings
from autorecap.dataset.log import read_state
from autorecap.dataset.reading.clips import Latent
from autorecap.dataset.store import open_store
from autorecap.dataset.view import DatasetView
from autorecap.models.genau.model import GenAu
from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.driver import prepare, run
from autorecap.pipeline.plan.segments_source import SegmentsSource
from autorecap.pipeline.plan.sources import of_build
from autorecap.training.checkpoint import checkpoint
from autorecap.training.genau.recipe import GenAuTraining, train_genau
from tests.support.datasets import audio_of, open_clips
from tests.support.flows import WatchedFlow
from tests.support.places import VECTORS

FORMATS = Path(os.environ.get("FORMATS") or VECTORS / "formats")
VERSIONS = sorted(path for path in FORMATS.glob("*") if path.is_dir())
DATASETS = ("clips", "segments", "latents")
MAX_BYTES = 2_000_000  # of a version
TOLERANCE = 1e-4
MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|var|usr|opt)/")


@dataclass(frozen=True)
class Old:
    """A copy of what a version wrote, and what must be found in it."""

    folder: Path
    expected: dict[str, Any]

    def __truediv__(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def old(request: Any, tmp_path: Path, monkeypatch: Any) -> Old:
    folder = tmp_path / request.param.name
    shutil.copytree(request.param, folder)
    monkeypatch.chdir(folder)  # paths of videos are relative to it
    return Old(folder, json.loads((folder / "expected.json").read_text(encoding="utf-8")))


@pytest.fixture(autouse=True, scope="module")
def _kept_as_they_are() -> Iterator[None]:
    before = digests(FORMATS)
    yield
    assert digests(FORMATS) == before, "a test has changed the data of a version"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def names_of(clips: Any) -> list[str]:
    return sorted(clips[i].name for i in range(len(clips)))


def close(found: Any, expected: Any) -> None:
    """Equal but for rounding, as seen from the largest of the numbers."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


# --- the folders


def test_there_is_data_of_a_version() -> None:
    assert VERSIONS, f"{FORMATS} holds no folder of a version: what earlier versions wrote is not tested at all"


def test_the_data_of_a_version_is_small_and_says_how_it_was_made(old: Old) -> None:
    made = {path.name for path in old.folder.iterdir()}
    assert made >= {*DATASETS, "checkpoint", "model", "expected.json", "make.py"}
    assert old.expected["version"] == old.folder.name
    assert sum(path.stat().st_size for path in old.folder.rglob("*") if path.is_file()) < MAX_BYTES


def test_no_path_of_the_machine_that_made_it_stands_in_the_data(old: Old) -> None:
    for path in (path for path in old.folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            data = repr(pq.ParquetFile(io.BytesIO(data)).read().to_pylist()).encode()
        assert not MACHINE_PATH.search(data), f"{path}: {MACHINE_PATH.search(data)}"


# --- datasets as files


@pytest.mark.parametrize("name", DATASETS)
def test_every_file_that_counts_is_what_its_commit_and_its_name_say(old: Old, name: str) -> None:
    files = read_state(open_store(old / name)).files
    expected = old.expected[name]["files"]
    assert {each.name: {"sha256": each.sha256, "bytes": each.bytes} for each in files.values()} == expected
    for each in files.values():
        data = Path(old / name, each.name).read_bytes()
        assert (sha256(data), len(data)) == (each.sha256, each.bytes)
        stem = Path(each.name).name.partition(".")[0]
        if each.name.endswith(".idx"):
            assert each.name.removesuffix(".idx") in files  # it is named as its shard
        elif each.name.startswith("plan/"):
            assert stem.rpartition("-")[2] == each.sha256[:8]
        else:
            assert stem == each.sha256[:32]


@pytest.mark.parametrize("name", ["clips", "latents"])
def test_the_index_points_at_the_payloads_in_the_shards(old: Old, name: str) -> None:
    rows = DatasetView(old / name).rows('select * from clips order by shard, "offset"')
    assert Counter(row["shard"] for row in rows).keys() == {
        each for each in old.expected[name]["files"] if each.endswith(".tar")
    }
    extension = "flac" if name == "clips" else "safetensors"
    for shard in sorted({row["shard"] for row in rows}):
        here = [row for row in rows if row["shard"] == shard]
        data = Path(old / name, shard).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {member.name: (member.offset_data, member.size) for member in tar}
        assert members == {
            f"{row['key']}.{ending}": (row[f"{part}offset"], row[f"{part}size"])
            for row in here
            for ending, part in ((extension, ""), ("json", "json_"))
        }
        for row in here:
            payload = data[row["offset"] : row["offset"] + row["size"]]
            assert payload.startswith(b"fLaC") if name == "clips" else safetensors.numpy.load(payload)
            meta = json.loads(data[row["json_offset"] : row["json_offset"] + row["json_size"]])
            assert (meta["key"], meta["caption"]) == (row["key"], row["caption"])
        starts = struct.unpack(f"<{len(here) + 1}Q", Path(old / name, shard + ".idx").read_bytes())
        assert set(starts[:-1]) <= {min(row["offset"], row["json_offset"]) - tarfile.BLOCKSIZE for row in here}
        assert max(offset + size for offset, size in members.values()) <= starts[-1] <= len(data)


# --- clips


def test_clips_are_read_with_their_sound_captions_and_scores(old: Old) -> None:
    view, listed, expected = DatasetView(old / "clips"), open_clips(old / "clips"), old.expected["clips"]["clips"]
    assert [row["key"] for row in view.rows("select key from clips order by key")] == [row["key"] for row in expected]
    by_name = {listed[i].name: listed[i] for i in range(len(listed))}
    assert by_name.keys() == {row["key"] for row in expected}
    for row in expected:
        stored = view.clip(row["key"])
        assert {name: stored.row[name] for name in row if name != "pcm_sha256"} == {
            name: value for name, value in row.items() if name != "pcm_sha256"
        }
        assert (stored.meta["caption"], stored.meta["title"]) == (row["caption"], row["title"])
        pcm, rate_hz = soundfile.read(io.BytesIO(stored.flac), dtype="int16")
        assert (rate_hz, len(pcm)) == (row["sample_rate_hz"], row["num_samples"])
        assert sha256(pcm.astype("<i2").tobytes()) == row["pcm_sha256"]
        clip = by_name[row["key"]]
        assert (clip.captions, clip.title) == ((row["caption"],), row["title"])
        heard, rate_hz = audio_of(clip, 60.0, 0.0)
        assert rate_hz == row["sample_rate_hz"]
        assert sha256((heard[0] * 32_768).round().astype("<i2").tobytes()) == row["pcm_sha256"]


def test_a_condition_chooses_the_same_clips(old: Old) -> None:
    assert old.expected["clips"]["where"]
    for where, expected in old.expected["clips"]["where"].items():
        assert names_of(open_clips(old / "clips", where)) == expected, where
        rows = DatasetView(old / "clips").rows(f"select key from clips where {where} order by key")
        assert [row["key"] for row in rows] == expected, where


@pytest.mark.parametrize("name", DATASETS)
def test_the_log_opens_with_what_is_done_and_what_is_to_be_tried_again(old: Old, name: str) -> None:
    state, expected = read_state(open_store(old / name)), old.expected[name]
    assert (state.epoch, state.next_seq, state.num_rows) == (
        expected["epoch"],
        expected["commits"],
        expected["planned"],
    )
    assert [list(each) for each in state.done.ranges] == expected["done"]
    assert [[each.row, each.attempt, each.not_before] for each in state.retry.values()] == expected["retry"]
    if name != "latents":
        columns = ", ".join(expected["videos"][0])
        rows = DatasetView(old / name).rows(f"select {columns} from videos order by row")
        assert rows == expected["videos"]
        assert Counter(row["status"] for row in rows) == expected["statuses"]


def test_a_build_goes_on_with_the_retry_when_it_is_due_and_touches_nothing_else(old: Old) -> None:
    """Other settings are accepted, as a later version may have more of them."""
    out, expected = old / "clips", old.expected["clips"]
    ((row, _, not_before),) = expected["retry"]
    late = expected["videos"][row]["video_id"]
    config = load_config(None, old.expected["build"])
    files = digests(Path(out))
    others = "select * from videos where video_id <> ? order by row"
    ledger = DatasetView(out).rows(others, late)

    def build(now: float, stages: list[Any] | None = None) -> list[str]:
        job = prepare(None, out, config, accept_settings=True)
        flow = WatchedFlow(config, job.store, stages)
        run(job, flow, lambda outcome, total: None, clock=lambda: now)
        return flow.seen

    assert build(not_before - 1, stages=[]) == []
    assert read_state(open_store(out)).retry.keys() == {row}
    assert build(not_before) == [late]
    view = DatasetView(out)
    assert not view.state.retry
    assert view.state.done.ranges == ((0, expected["planned"]),)
    assert view.rows("select status, num_kept from videos where video_id = ?", late) == [
        {"status": "ok", "num_kept": 1}
    ]
    assert view.rows(others, late) == ledger
    found = {each["key"] for each in view.rows("select key from clips")}
    (new,) = found - {each["key"] for each in expected["clips"]}
    assert len(found) == len(expected["clips"]) + 1
    assert new.startswith(f"{late}_")
    assert len(soundfile.read(io.BytesIO(view.clip(new).flac))[0]) == view.clip(new).row["num_samples"]
    now = digests(Path(out))
    assert {name: now.get(name) for name in files if name != "lease.json"} == {
        name: digest for name, digest in files.items() if name != "lease.json"
    }


# --- segments


def test_segments_are_the_videos_of_a_build_that_goes_on_from_them(old: Old) -> None:
    spans = old.expected["segments"]["spans"]
    columns = ", ".join(spans[0])
    assert DatasetView(old / "segments").rows(f"select {columns} from clips order by key") == spans
    source = of_build(old / "segments", [])
    assert isinstance(source, SegmentsSource)
    config = load_config(None, old.expected["build"])
    job = prepare(source, old / "built", config)
    flow = WatchedFlow(config, job.store)
    run(job, flow, lambda outcome, total: None)
    assert sorted(flow.seen) == sorted({span["video_id"] for span in spans})
    view = DatasetView(old / "built")
    assert {row["status"] for row in view.rows("select status from videos")} == {"ok"}
    assert view.rows(f"select {columns} from clips order by key") == spans


# --- latents


def test_latents_are_read_with_the_same_numbers(old: Old) -> None:
    latents: Any = open_clips(old / "latents")
    expected = old.expected["latents"]["latents"]
    by_name = {latents[i].name: latents[i] for i in range(len(latents))}
    assert sorted(by_name) == [row["key"] for row in expected] == names_of(open_clips(old / "clips"))
    frames = latents.settings["piece_frames"]
    for row in expected:
        clip = by_name[row["key"]]
        assert clip.captions == (row["caption"],)
        count = -(-row["num_frames"] // frames)
        pieces: list[Any] = [clip.load(frames / 25, (number + 0.5) / count) for number in range(count)]
        assert all(isinstance(piece, Latent) for piece in pieces)
        arrays = {
            "mean": np.concatenate([piece.mean_CT for piece in pieces], axis=1),
            "logvar": np.concatenate([piece.logvar_CT for piece in pieces], axis=1),
            "summary": pieces[0].summary_W,
            "words": pieces[0].words_ND,
        }
        arrays = {name: array for name, array in arrays.items() if array is not None}
        assert {name: list(array.shape) for name, array in arrays.items()} == row["shapes"]
        for name, array in arrays.items():
            assert sha256(np.ascontiguousarray(array, "<f4").tobytes()) == row["sha256_as_float32"][name], name


def losses(folder: str) -> list[float]:
    with Path(folder, "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def train(old: Old, out: str, *, resume: bool = False) -> Any:
    config = settings.load(GenAuTraining, None, old.expected["training"])
    data, init = [old / "latents"], old / "model"
    return train_genau(config, data, out, init=init, resume=resume, say=lambda line: None)


def test_a_generator_learns_from_latents_with_the_same_losses(old: Old) -> None:
    train(old, old / "run")
    close(losses(old / "run"), old.expected["checkpoint"]["losses"])


# --- a run and a model


def test_a_run_goes_on_from_its_checkpoint_to_the_losses_of_one_left_alone(old: Old) -> None:
    expected = old.expected["checkpoint"]
    (saved,) = checkpoint.all_in(Path(old / "checkpoint", "checkpoints"))
    assert saved.step == expected["step"] == len(losses(old / "checkpoint")) < len(expected["losses"])
    outcome = train(old, old / "checkpoint", resume=True)
    assert outcome.step == len(expected["losses"])
    close(losses(old / "checkpoint"), expected["losses"])
    assert GenAu.from_pretrained(outcome.model).config.size == GenAu.from_pretrained(old / "model").config.size


def test_a_model_folder_gives_the_same_numbers(old: Old) -> None:
    model, expected = GenAu.from_pretrained(old / "model"), old.expected["model"]
    text = model.condition(expected["prompts"], ["autocap", "clotho"]).text
    time_S = np.arange(10_240) / 16_000
    tone_S = (0.5 * np.sin(2 * np.pi * (300 + 500 * time_S) * time_S)).astype(np.float32)
    (latent_CT,) = model.encode_audio([tone_S], 16_000)
    sounds_BS = torch.stack(model.generate(expected["prompts"], **expected["generate"]))
    assert text.summary_BW is not None and text.words_BNW is not None
    found = {
        "summary": text.summary_BW,
        "first_words": text.words_BNW[:, 0],
        "latent": latent_CT,
        "sounds": sounds_BS[:, 2_000:2_040],
    }
    assert found.keys() == expected["numbers"].keys()
    for name, tensor in found.items():
        close(tensor.flatten().numpy(), expected["numbers"][name])
