"""`--plan`: what the run that a command describes will need."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from autorecap.dataset.reading.checks import latent_sets
from autorecap.dataset.reading.clips import ListedClips
from autorecap.dataset.reading.manifest import Manifest, open_manifest
from autorecap.models.autocap import AutoCap
from autorecap.models.files import ModelFilesError
from autorecap.models.genau import pretrained
from autorecap.models.genau.recipe import SIZES, GenAuConfig
from autorecap.training.autocap.recipe import DEMO, AutoCapTraining
from autorecap.training.forecast.forecast import Cluster, Load, Plan, PlanError, Reading, make_plan
from autorecap.training.forecast.model_loads import autocap_load, genau_load, vae_load, vocoder_load
from autorecap.training.genau.recipe import GenAuTraining
from autorecap.training.vae.recipe import VAETraining
from autorecap.training.vocoder.recipe import VocoderTraining


def plan_run(config: Any, data: Sequence[str], *, init: str, where: str, cluster: Cluster) -> Plan:
    """The plan of a training of `config`, the settings of any recipe. Without `data` what depends on it is left out."""
    clips = open_manifest(data, where, None, config.data) if data else Manifest([])
    if not data and not config.loop.steps:
        raise PlanError("the length of the run is in epochs: name the data, or give --set loop.steps=")
    loop = config.loop.resolved(max(len(clips), 1))
    mine = ceil(loop.batch_size / cluster.count)
    samples = min(loop.micro_batch_size or mine, mine)
    on_gpu = not cluster.hardware.measured
    bf16 = loop.precision == "bf16" or (loop.precision == "auto" and on_gpu)
    try:
        load = _load(config, clips, init, samples, bf16)
    except ModelFilesError as error:
        raise PlanError(str(error)) from error
    reading = Reading(samples=len(clips), bytes=_num_bytes(clips)) if len(clips) else None
    return make_plan(load, loop, cluster, reading)


def _load(config: Any, clips: Manifest, init: str, samples: int, bf16: bool) -> Load:
    if isinstance(config, AutoCapTraining):
        if not init:
            raise PlanError("say what is trained: --init FOLDER, a hub id, or demo")
        model = AutoCap.from_pretrained(AutoCap.DEMO if init == DEMO else init)
        return autocap_load(model.config, model.tokenizer, config.task.frozen, samples, bf16=bf16)
    generator = _generator(init)
    if isinstance(config, VAETraining):
        return vae_load(generator.vae, config.task, samples, bf16=bf16)
    if isinstance(config, VocoderTraining):
        return vocoder_load(generator.vocoder, config.task, samples, bf16=bf16)
    assert isinstance(config, GenAuTraining)
    return genau_load(generator, samples, bf16=bf16, from_sound=not latent_sets(clips))


def _generator(init: str) -> GenAuConfig:
    if not init:
        raise PlanError(f"say what is trained: --init FOLDER, a hub id, or a size: {', '.join(SIZES)}")
    return SIZES[init] if init in SIZES else pretrained.find(init)[1]


def _num_bytes(clips: Manifest) -> int:
    """As stored, which is what is read."""
    listed = [clip for each in clips.sets if isinstance(each, ListedClips) for clip in each.clips]
    return clips.num_bytes + sum(Path(clip.path).stat().st_size for clip in listed)
