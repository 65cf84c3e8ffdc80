# isort: skip_file  the packages below are those of another time
"""This script made the data beside it, with the code of version 2026.11.

It needs a checkout of that version (commit c63db4b, whose packages are still called pipeline, stages, models and
cluster) and what that version depends on. Run it from the root of that checkout, with the place for the data:

    OMP_NUM_THREADS=1 PYTHONPATH=. python .../2026.11/make.py OUT

It runs what users run, in a plain loop in place of Ray: two builds, a build that stops at segments, `encode`, and a
training that is interrupted. Every sound is synthesised. A clock that goes on by a millisecond whenever somebody looks,
and words drawn from a seed, make the files the same every time, as far as ffmpeg and the libraries are the same.

Paths are relative to OUT, as a build that runs elsewhere must find the videos. In two places this version writes
absolute ones where a folder is named in the usual way. A plan has the paths of the media, so `Here` below cuts them.
Latents have that of their clips, so these are named file://clips, which stays as it is.
"""

import csv
import dataclasses
import hashlib
import io
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import safetensors.numpy
import soundfile
import torch
from transformers import T5Config

from models.autocap import CaptionTokenizer
from models.autocap.tokens import EOS, PAD
from models.clap import ClapText, ClapTextSize
from models.genau.conditioning import TextConfig, TextEncoders
from models.genau.config import ContextConfig, FitConfig
from models.genau.diffusion import DiffusionConfig
from models.genau.model import GenAu
from models.genau.recipe import GenAuConfig
from models.genau.t5 import T5Text
from models.genau.vae import VAEConfig
from models.genau.vocoder import VocoderConfig
from pipeline import settings
from pipeline.build import prepare, run
from pipeline.config import BuildConfig, load_config
from pipeline.dataset.log import read_state
from pipeline.dataset.store import Store, open_store
from pipeline.dataset.view import DatasetView
from pipeline.dataset.writer import Proposal, Writer
from pipeline.demo import sentences
from pipeline.demo.corpus import DemoVideo, Part, synthesise_corpus
from pipeline.demo.sounds import synthesise
from pipeline.encode import encode
from pipeline.encoder import EncodeConfig
from pipeline.plan import Found, Source
from pipeline.pools import POOLS, stages_of
from pipeline.segments import SegmentsWriter
from pipeline.sources import of_build
from pipeline.training.genau_recipe import GenAuTraining, train_genau
from pipeline.training.manifest import open_clips
from pipeline.training.run import Interrupted
from stages.records import from_table
from stages.stage import run_stages

VERSION = "2026.11"
BEGINNING = 1_793_534_400.0  # 2026-11-01, noon UTC
RATE_HZ = 16_000  # what the smallest model hears

VIDEOS = (
    DemoVideo(
        name="rainOnRoof",
        container="webm",
        transcript="en.json3",
        title="Rain on the roof, and a word about it",
        parts=(Part("rain", 2.2), Part("speech_man", 1.5), Part("crickets", 1.3)),
    ),
    DemoVideo(
        name="my dog.2",  # no id: it becomes one, and the name is kept
        container="ogg",
        transcript="en.vtt",
        title="My dog — “good boy”",
        parts=(Part("dog", 1.6), Part("speech_woman", 1.5)),
    ),
    DemoVideo(
        name="concertHall",
        container="ogg",
        transcript="en.srt",
        parts=(Part("speech_man", 2.0), Part("music", 2.5)),
        transcribe_music=False,
    ),
    DemoVideo(name="noSubtitles", container="ogg", parts=(Part("waves", 2.0),)),
    DemoVideo(
        name="brokenFile", container="mp4", transcript="en.ttml", parts=(Part("rain", 3.0),), spoil=b"\0 no video" * 40
    ),
    DemoVideo(
        name="lateTrain",
        container="m4a",
        transcript="en.srv1",
        title="The train that came late",
        parts=(Part("siren", 2.0), Part("speech_man", 1.5)),
    ),
)
LATE = "lateTrain"  # its files are gone when the build wants them
SEGMENTED = ("lateTrain", "my dog.2", "noSubtitles")  # the videos of the dataset of segments
SOUNDS = (("clock", 1.3, "A clock ticks"), ("engine", 3.7, "An engine runs, people wrote"))  # a set with captions

BUILD = [f"media.sample_rate_hz={RATE_HZ}", "writer.videos_per_shard=8"]
ENCODE = {"max_seconds": 2.56, "dtype": "fp16"}
TRAINING = [
    *("loop.steps=8", "loop.batch_size=3", "loop.lr=0.01", "loop.warmup_steps=2", "loop.log_every=1", "loop.threads=1"),
    *("loop.ema_decay=0.9", "run.num_samples=0", "task.drop_condition_p=0.3"),
]
STOP_AFTER = 4
WHERES = ("duration_ms > 2000", "row < 6 and caption is not null", "video_id = 'rainOnRoof' and start_ms = 0")
CLIP_COLUMNS = (
    *("key", "video_id", "caption", "original_caption", "title", "duration_ms", "sample_rate_hz", "num_samples"),
    *("clap_score", "shard", "offset", "size"),
)
LATENT_COLUMNS = ("key", "caption", "num_frames", "source_shard", "shard", "offset", "size")
GENERATE: dict[str, Any] = {"seconds": 0.6, "num_steps": 3, "guidance_scale": 2.0, "seed": 5, "peak": None}
PROMPTS = ["Rain falls on a tin roof", "A dog barks twice"]


def main(out: Path) -> None:
    for name in ("clips", "segments", "latents", "checkpoint", "model", "videos", "expected.json"):
        if (out / name).exists():
            raise SystemExit(f"{out / name} exists: name a folder without it, or remove it first")
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, _same_every_time():
        os.chdir(folder)
        expected: dict[str, Any] = {"version": VERSION, "build": BUILD, "encode": ENCODE, "training": TRAINING}
        expected["segments"] = make_segments()
        expected["clips"] = make_clips()
        save_model()
        expected["model"] = expected_of_model()
        expected["latents"] = make_latents()
        expected["checkpoint"] = make_checkpoint()
        for dataset in ("clips", "segments", "latents"):
            shutil.rmtree(Path(dataset, ".staging"))
            shutil.copytree(dataset, out / dataset)
        for name in ("checkpoint", "model", "videos"):
            shutil.copytree(name, out / name)
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (out / "expected.json").write_text(text + "\n", encoding="utf-8")


@contextmanager
def _same_every_time() -> Iterator[None]:
    """Within, nothing depends on the time, the machine, or chance."""
    looks, words, gmtime = itertools.count(), random.Random(0), time.gmtime
    fixed = {
        "time.time": lambda: BEGINNING + next(looks) / 1000,
        "time.monotonic": lambda: 1000 + next(looks) / 1000,
        "time.perf_counter": lambda: 1000 + next(looks) / 1000,
        "time.gmtime": lambda seconds=None: gmtime(BEGINNING if seconds is None else seconds),
        "secrets.token_hex": lambda length: words.randbytes(length).hex(),
        "socket.gethostname": lambda: "host",
        "os.getpid": lambda: 1,
        "pipeline.training.loop.memory_gb": lambda device: 0.25,
    }
    assert all(callable(each) for each in (secrets.token_hex, socket.gethostname))
    with ExitStack() as stack:
        for name, replacement in fixed.items():
            stack.enter_context(mock.patch(name, replacement))
        yield


# --- builds


class Flow:
    """A pass without Ray: the stages and the writer of a build, one bundle after the other."""

    def __init__(self, config: BuildConfig, store: Store, *, until_segments: bool = False) -> None:
        pools = POOLS[:1] if until_segments else POOLS
        self.stages = [stage for pool in pools for stage in stages_of(pool, config)]
        self.writer = (SegmentsWriter if until_segments else Writer)(config.writer, store)
        self.size = config.writer.videos_per_shard

    def run(self, rows: list[pa.Table]) -> Iterator[Proposal]:
        videos = [video for table in rows for video in from_table(table)]
        for first in range(0, len(videos), self.size):
            yield self.writer(run_stages(self.stages, videos[first : first + self.size]))


@dataclasses.dataclass(frozen=True)
class Here:
    """A source, the paths in it relative to the working directory."""

    source: Source

    def find(self, store: Store, state: Any) -> Found:
        found = self.source.find(store, state)
        return dataclasses.replace(found, tables=lambda: map(self._cut, found.tables()))

    def _cut(self, table: pa.Table) -> pa.Table:
        start = f"{Path.cwd()}/"
        rows = table.to_pylist()
        for row in rows:
            row |= {name: row[name].removeprefix(start) for name in ("media", "info")}
            row["sidecars"] = [path.removeprefix(start) for path in row["sidecars"]]
        return pa.Table.from_pylist(rows, table.schema)


def build(source: Source | None, out: str, *, kind: str = "clips", after_planning: Any = lambda: None) -> None:
    config = load_config(None, BUILD)
    job = prepare(Here(source) if source else None, out, config, kind=kind)
    after_planning()
    flow = Flow(config, job.store, until_segments=kind == "segments")
    run(job, flow, lambda outcome, total: None, clock=lambda: time.time())


def make_segments() -> dict[str, Any]:
    """Segments of the videos that stay with the data."""
    synthesise_corpus(Path("videos"), [video for video in VIDEOS if video.name in SEGMENTED])
    build(of_build("videos", []), "segments", kind="segments")
    shutil.move("videos", "kept")
    for path in Path("kept").glob("noSubtitles*"):  # nobody will ask for it again
        path.unlink()
    rows = DatasetView("segments").rows("select key, video_id, start_ms, end_ms from clips order by key")
    return {**expected_of_log("segments"), "spans": rows}


def make_clips() -> dict[str, Any]:
    """Two builds: of a folder of videos, one of which is gone, and of a set of captioned sounds."""
    synthesise_corpus(Path("videos"), VIDEOS)
    for name in SEGMENTED:  # made alone they have other noise
        for path in Path("kept").glob(f"{name}*"):
            shutil.copy(path, "videos")

    def lose() -> None:
        for path in Path("videos").glob(f"{LATE}*"):
            path.unlink()

    build(of_build("videos", []), "clips", after_planning=lose)
    Path("sounds").mkdir()
    rows = ["file_name,caption,title"]
    for number, (kind, seconds, caption) in enumerate(SOUNDS):
        soundfile.write(f"sounds/{kind}.wav", synthesise(kind, seconds, np.random.default_rng(number)), 32_000)
        rows.append(f'{kind}.wav,"{caption}",Sound {number}')
    Path("sounds.csv").write_text("\n".join(rows))
    build(of_build(None, ["sounds.csv@sounds"]), "clips")
    shutil.rmtree("videos")
    shutil.move("kept", "videos")

    view = DatasetView("clips")
    clips = []
    for row in view.rows("select * from clips order by key"):
        stored = view.clip(row["key"])
        pcm, rate_hz = soundfile.read(io.BytesIO(stored.flac), dtype="int16")
        assert rate_hz == row["sample_rate_hz"]
        about = {name: row[name] for name in CLIP_COLUMNS}
        clips.append(about | {"pcm_sha256": sha256(pcm.astype("<i2").tobytes())})
    wheres = {where: names_of(open_clips("clips", where)) for where in WHERES}
    return {**expected_of_log("clips"), "clips": clips, "where": wheres}


def names_of(clips: Any) -> list[str]:
    return sorted(clips[i].name for i in range(len(clips)))


def expected_of_log(dataset: str) -> dict[str, Any]:
    """What the log, the ledger and the files of a dataset say."""
    store = open_store(dataset)
    state = read_state(store)
    found: dict[str, Any] = {
        "kind": json.loads(store.read("dataset.json"))["kind"],
        "epoch": state.epoch,
        "commits": state.next_seq,
        "planned": state.num_rows,
        "done": [list(each) for each in state.done.ranges],
        "retry": [[entry.row, entry.attempt, entry.not_before] for entry in state.retry.values()],
        "files": {file.name: {"sha256": file.sha256, "bytes": file.bytes} for file in state.files.values()},
    }
    if found["kind"] != "latents":
        rows = DatasetView(dataset).rows("select video_id, status, reason, num_kept from videos order by row")
        found["videos"] = rows
        found["statuses"] = dict(sorted(Counter(row["status"] for row in rows).items()))
    for name, about in found["files"].items():
        content = Path(dataset, name).read_bytes()
        assert (sha256(content), len(content)) == (about["sha256"], about["bytes"])
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- the model, latents of it, and a training


def save_model() -> None:
    """A GenAu as small as one can be. Its weights are random, and loud enough to be told from nothing."""
    torch.manual_seed(0)
    tokenizer = CaptionTokenizer.train(sentences.corpus(), 300)
    text = ClapTextSize(
        vocab=300, width=16, num_layers=1, num_heads=2, ffn_width=16, max_positions=34, joint_width=8, max_tokens=32
    )
    words = T5Config(
        vocab_size=300,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    config = GenAuConfig(
        size="tiny",
        backbone=FitConfig(
            size="tiny",
            channels=4,
            max_frames=64,
            num_latents=8,
            patch_width=8,
            latent_width=8,
            num_blocks=1,
            local_layers=1,
            global_layers=1,
            head_width=4,
            dropout=0.0,
            self_conditioning=False,
            context=ContextConfig(width=8, summary_width=24, word_width=16, num_datasets=16),
        ),
        vae=VAEConfig(size="tiny", channels=4, width=32, multipliers=(1, 1, 1), blocks=1, inner_channels=4),
        vocoder=VocoderConfig(size="tiny", width=32, rate_kernels=(5, 4, 2, 2, 2), kernels=(3,), dilations=(1,)),
        diffusion=DiffusionConfig(prediction="v"),
        text=TextConfig(clap=True, t5="both"),
        unconditional_dataset=15,
    )
    encoders = TextEncoders(config.text, t5=T5Text(words, tokenizer.bpe), clap=ClapText(text, tokenizer))
    model = GenAu(config, encoders).eval()
    with torch.no_grad():
        for name, parameter in model.vocoder.named_parameters():
            parameter.mul_(0 if name.endswith("bias") else 24)
    model.save_pretrained("model", dtype=torch.float16)


def tone() -> np.ndarray:
    """A sound that anybody can make: 0.64 s of a rising tone, at 16 kHz."""
    time_S = np.arange(10_240) / 16_000
    return (0.5 * np.sin(2 * np.pi * (300 + 500 * time_S) * time_S)).astype(np.float32)


def expected_of_model() -> dict[str, Any]:
    """What the model in the folder makes of texts, of a tone, and of noise."""
    model = GenAu.from_pretrained("model")
    text = model.condition(PROMPTS, ["autocap", "clotho"]).text
    (latent_CT,) = model.encode_audio([tone()], 16_000)
    sounds = model.generate(PROMPTS, **GENERATE)
    numbers = {
        "summary": text.summary_BW,
        "first_words": text.words_BNW[:, 0],
        "latent": latent_CT,
        "sounds": torch.stack(sounds)[:, 2_000:2_040],
    }
    return {
        "prompts": PROMPTS,
        "generate": GENERATE,
        "numbers": {name: [round(value, 8) for value in x.flatten().tolist()] for name, x in numbers.items()},
    }


def make_latents() -> dict[str, Any]:
    encode("file://clips", "model", "latents", EncodeConfig(**ENCODE), say=lambda line: None)
    rows = DatasetView("latents").rows("select * from clips order by key")
    samples = []
    for row in rows:
        data = Path("latents", row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        arrays = safetensors.numpy.load(data)
        shapes = {name: list(array.shape) for name, array in sorted(arrays.items())}
        about = {name: row[name] for name in LATENT_COLUMNS}
        digests = {name: sha256(array.astype("<f4").tobytes()) for name, array in sorted(arrays.items())}
        samples.append(about | {"shapes": shapes, "sha256_as_float32": digests})
    return {**expected_of_log("latents"), "latents": samples}


def make_checkpoint() -> dict[str, Any]:
    """A run that is left alone says what is expected of one that is interrupted."""
    config = settings.load(GenAuTraining, None, TRAINING)
    train_genau(config, ["latents"], "whole", init="model", say=lambda line: None)

    def interrupt(line: str) -> None:
        if line.startswith(f"step {STOP_AFTER - 1:>6}"):
            signal.raise_signal(signal.SIGTERM)  # the step at work is ended

    try:
        train_genau(config, ["latents"], "checkpoint", init="model", say=interrupt)
    except Interrupted:
        pass
    assert losses("checkpoint") == losses("whole")[:STOP_AFTER]
    shutil.copytree("checkpoint", "resumed")
    train_genau(config, ["latents"], "resumed", init="model", resume=True, say=lambda line: None)
    assert losses("resumed") == losses("whole")
    Path("checkpoint", "report.html").unlink()  # it is for people, and made again
    return {"step": STOP_AFTER, "losses": losses("whole")}


def losses(folder: str) -> list[float]:
    with Path(folder, "log.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
