"""A folder that holds, small, what the commands and snippets of the pages read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
import yaml

from autorecap.models.autocap import AutoCap
from autorecap.pipeline.latents.encode import encode
from tests.support.datasets import Growing
from tests.support.places import PROJECT
from tests.support.tiny_genau import TINY, built

A, B = "dQw4w9WgXcQ", "aqz-KE-bpKQ"
LISTS = {
    "ids.txt": f"{A}\n{B}\n",
    "mine.txt": f"{A}\n{B}\n",
    "eval_segments.csv": f'# YTID, start_seconds, end_seconds, positive_labels\n{A}, 30.000, 40.000, "/m/09x0r"\n',
    "vggsound.csv": f"{B},30,rain,train\n",
    "hdvila_part0.jsonl": json.dumps({"video_id": B, "clip": [{"clip_id": "0", "span": ["00:00:01.0", "00:00:09.0"]}]}),
    "yttemporal1b_ids_train.csv": f"video_id\n{A}\n",
    "audiocaps_test.csv": f"audiocap_id,youtube_id,start_time,caption\n1,{A},30,Rain falls\n",
    "audiocaps_train.csv": f"audiocap_id,youtube_id,start_time,caption\n2,{B},30,A dog barks\n",
    "AutoReCapXL.json": json.dumps(
        [{B: {"intervals": [{"start": 3, "end": 9, "text": "Rain falls", "CLAP_SIM": 0.5}]}}]
    ),
    "mine.csv": "file_name,caption\nrain.wav,Rain falls on a tin roof\ndog.wav,A dog barks twice\n",
}
JSON3 = '{"events": [{"tStartMs": 5000, "dDurationMs": 3000, "segs": [{"utf8": "Good morning"}]}]}'
VTT = "WEBVTT\n\n00:05.000 --> 00:08.000\nGood morning\n"


def make_world(folder: Path) -> dict[str, str]:
    """Fill the folder, and return what stands for the placeholders of the pages."""
    for name, text in LISTS.items():
        (folder / name).write_text(text)
    for name in ("videos", "sounds", "SoundBible_flac"):
        (folder / name).mkdir()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000)
    for name in ("rain.wav", "some.wav", "sounds/rain.wav", "sounds/dog.wav"):
        soundfile.write(folder / name, noise, 32_000)
    dataset = Growing(str(folder / "ambient"))
    dataset.add(range(4))
    (folder / "raw").symlink_to("ambient")
    [shard] = (folder / "ambient" / "shards").glob("*.tar")
    for name in ("videos/ID.en.json3", "video.en.json3"):
        (folder / name).write_text(JSON3)
    (folder / "video.en.vtt").write_text(VTT)
    (folder / "models").symlink_to(PROJECT / "models")
    torch.save({"state_dict": {"weight": torch.zeros(2, 3)}}, folder / "any.ckpt")
    _models(folder)
    _settings(folder)
    encode(str(folder / "ambient"), str(folder / "genau"), str(folder / "latents"))
    return {"shards/ID.tar": f"shards/{shard.name}", "KEY": "v0_0_1000"}


def _models(folder: Path) -> None:
    genau = folder / "genau"
    built(replace(TINY, backbone=replace(TINY.backbone, max_frames=256))).save_pretrained(genau)
    for name in ("weights/genau-l", "genau-s", "runs/vocoder/model", "runs/genau/model", "runs/vae/model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(genau)
    for name in ("weights/autocap", "autocap", "runs/mine/model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(AutoCap.DEMO)


def _settings(folder: Path) -> None:
    """The project's settings, of which those that a snippet trains by are cut to a step."""
    shutil.copytree(PROJECT / "configs", folder / "configs")
    path = folder / "configs" / "autocap-stage1.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["loop"] |= {"steps": 1, "batch_size": 2, "micro_batch_size": 0, "threads": 1}
    path.write_text(yaml.safe_dump(settings))
