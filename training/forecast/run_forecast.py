"""Forecast of the run that a command line describes: `train --forecast`."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from autorecap.dataset.reading.clips import ListedClips
from autorecap.dataset.reading.manifest import Manifest, open_manifest
from autorecap.models.autocap import AutoCap
from autorecap.models.files import ModelFilesError
from autorecap.models.genau import pretrained
from autorecap.models.genau.config import SIZES, GenAuConfig
from autorecap.training.autocap.recipe import AutoCapTraining
from autorecap.training.data_checks import latent_sets
from autorecap.training.forecast.forecast import Cluster, EpochData, Forecast, ForecastError, make_forecast
from autorecap.training.forecast.model_loads import autocap_load, genau_load, vae_load, vocoder_load
from autorecap.training.forecast.step_load import StepLoad
from autorecap.training.genau.recipe import GenAuTraining
from autorecap.training.vae.recipe import VAETraining
from autorecap.training.vocoder.recipe import VocoderTraining


def forecast_run(config: Any, data: Sequence[str], *, init: str, where: str, cluster: Cluster) -> Forecast:
    """Return the forecast of a training. Without `data` the lines that depend on it are left out.

    config: the settings of a training of any model. Raises ForecastError, and ForeseenError for data.
    """
    clips = open_manifest(data, where, None, config.data) if data else Manifest([])
    if not data and not config.loop.steps:
        raise ForecastError("the length of the run is in epochs: name the data, or give --set loop.steps=")
    loop = config.loop.resolved(max(len(clips), 1))
    mine = ceil(loop.batch_size / cluster.count)
    num_clips = min(loop.micro_batch_size or mine, mine)
    on_gpu = not cluster.hardware.measured
    bf16 = loop.precision == "bf16" or (loop.precision == "auto" and on_gpu)
    try:
        load = _load(config, clips, init, num_clips, bf16)
    except ModelFilesError as error:
        raise ForecastError(str(error)) from error
    epoch = EpochData(num_clips=len(clips), num_bytes=_num_bytes(clips)) if len(clips) else None
    return make_forecast(load, loop, cluster, epoch)


def _load(config: Any, clips: Manifest, init: str, num_clips: int, bf16: bool) -> StepLoad:
    if isinstance(config, AutoCapTraining):
        if not init:
            raise ForecastError("--init is missing: name the model to train by a folder, a hub id, or demo")
        model = AutoCap.from_pretrained(init)
        return autocap_load(model.config, model.tokenizer, config.task.frozen, num_clips, bf16=bf16)
    generator = _generator(init)
    if isinstance(config, VAETraining):
        return vae_load(generator.vae, config.task, num_clips, bf16=bf16)
    if isinstance(config, VocoderTraining):
        return vocoder_load(generator.vocoder, config.task, num_clips, bf16=bf16)
    assert isinstance(config, GenAuTraining)
    return genau_load(generator, num_clips, bf16=bf16, from_sound=not latent_sets(clips))


def _generator(init: str) -> GenAuConfig:
    if not init:
        raise ForecastError(
            f"--init is missing: name the model to train by a folder, a hub id, or a size: {', '.join(SIZES)}"
        )
    return SIZES[init] if init in SIZES else pretrained.find(init)[1]


def _num_bytes(clips: Manifest) -> int:
    """Return the bytes of all clips as they are stored, which is what is read."""
    listed = [clip for each in clips.sets if isinstance(each, ListedClips) for clip in each.clips]
    return clips.num_bytes + sum(Path(clip.path).stat().st_size for clip in listed)
