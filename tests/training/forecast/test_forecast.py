"""Forecasts of trainings: what is exact, and what is estimated against what a run really takes.

Also proves training/forecast/step_load.py, training/forecast/model_loads.py and training/loop/hardware.py.
"""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from autorecap.models.autocap import AutoCap
from autorecap.models.genau.audio import log_mel
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES, UNetConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.backbones.unet import UNet
from autorecap.models.genau.config import SIZES as GENAU_SIZES
from autorecap.models.genau.flops import flops
from autorecap.models.genau.vae.model import VAE, VAEConfig
from autorecap.models.genau.vocoder.model import Vocoder, VocoderConfig
from autorecap.training.forecast.forecast import Cluster, EpochData, ForecastError, cluster_of, make_forecast
from autorecap.training.forecast.model_loads import autocap_load, genau_load, vae_load, vocoder_load
from autorecap.training.forecast.step_load import StepLoad, count_load, fake
from autorecap.training.loop.config import LoopConfig
from autorecap.training.loop.hardware import GPUS, Hardware
from autorecap.training.vae.task import VAETaskConfig
from autorecap.training.vocoder.task import VocoderTaskConfig
from tests.support.places import PROJECT

WITHIN = 1.35  # the factor within which a forecast's peak is that of a run on a CPU


def step_of(size: str, batch: int) -> tuple[Fit, Any]:
    """A backbone and its loss, of noise, at a batch of the longest clips."""
    config = SIZES[size]
    model = Fit(config)
    x_BCT = torch.randn(batch, config.channels, config.max_frames)
    text = Text(torch.randn(batch, config.context.summary_width))
    timesteps_B, ids_B = torch.randint(0, 1_000, (batch,)), torch.zeros(batch, dtype=torch.long)

    def loss() -> Tensor:
        return (model(x_BCT, timesteps_B, text, ids_B).eps - x_BCT).square().mean()

    return model, loss


def load_of(size: str, batch: int, *, bf16: bool = False) -> StepLoad:
    with fake():
        model, loss = step_of(size, batch)
        return count_load(size, model, [loss], batch, bf16=bf16)


@pytest.mark.parametrize(("size", "batch"), [("demo", 1), ("demo", 3), ("s", 2)])
def test_parameters_and_operations_are_counted_as_they_are(size: str, batch: int) -> None:
    """GenAu-S takes no memory here, and its operations are those of the closed form, to the last one."""
    load = load_of(size, batch)
    with torch.device("meta"):
        parameters = list(Fit(SIZES[size]).parameters())
    assert load.num_trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert load.num_trained + load.num_frozen == sum(p.numel() for p in parameters)
    assert load.flops == flops(SIZES[size], batch=batch, backward=True)


def test_what_is_kept_grows_with_the_batch_and_shrinks_in_bf16() -> None:
    one, four, half = load_of("demo", 1), load_of("demo", 4), load_of("demo", 4, bf16=True)
    assert 3.8 < four.kept_bytes / one.kept_bytes < 4.05
    assert 0.5 < half.kept_bytes / four.kept_bytes < 0.75


@pytest.mark.slow
def test_every_model_has_a_load_of_its_own_size_without_its_memory() -> None:
    """Released sizes; what is learned is what there is to learn, and half-sized values are kept in bf16."""
    captioner = AutoCap.from_pretrained(AutoCap.DEMO)
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in module.parameters())
            for module in (VAE(VAEConfig()), Vocoder(VocoderConfig()), UNet(UNetConfig()))
        ]
    loads = [
        vae_load(VAEConfig(), VAETaskConfig(seconds=0.64, disc_width=8), 1, bf16=True),
        vocoder_load(VocoderConfig(), VocoderTaskConfig(segment_frames=16, disc_width=16), 1, bf16=True),
        genau_load(GENAU_SIZES["unet"], 1, bf16=True, from_sound=False),
        autocap_load(captioner.config, captioner.tokenizer, ("encoders", "bart"), 2, bf16=False),
    ]
    for load, size in zip(loads, sizes, strict=False):
        assert size <= load.num_trained < 1.05 * size  # and small discriminators
    assert loads[3].num_trained == 447_488 and loads[3].num_frozen > 1_400_000
    assert all(load.kept_bytes > 1e5 and load.flops > 1e8 for load in loads)
    sound, latents = (genau_load(GENAU_SIZES["demo"], 1, bf16=False, from_sound=given) for given in (True, False))
    assert sound.num_frozen - latents.num_frozen == 4_093_568 + 532_544  # the VAE, and text encoders
    assert torch.equal(log_mel(torch.ones(1, 2_560)), log_mel(torch.ones(1, 2_560)))  # its tables are real ones
    assert (sound.flops_origin, loads[2].flops_origin) == ("exact", "counted")


def a_load(**changes: Any) -> StepLoad:
    values = {
        "model": "m",
        "num_trained": 1_000_000,
        "num_frozen": 500,
        "num_clips": 8,
        "kept_bytes": 10**9,
        "flops": 8 * 10**12,
    }
    return StepLoad(**values | changes)  # type: ignore[arg-type]


def loop(**changes: Any) -> LoopConfig:
    usual: dict[str, Any] = {"steps": 1_000, "batch_size": 64, "optimizer": "lamb"}
    return LoopConfig(**(usual | changes))


H100 = Cluster(hardware=GPUS["h100"], count=8, mfu=0.5, usd_per_hour=2.0)


def test_the_numbers_follow_from_one_another() -> None:
    forecast = make_forecast(a_load(), loop(ema_decay=0.999), H100, EpochData(num_clips=6_400, num_bytes=6_400 * 1_000))
    assert (forecast["weights"], forecast["gradients"], forecast["optimiser"]) == (0.004, 0.004, 0.008)
    assert forecast["moving average"] == forecast["exchange of gradients"] == 0.004
    assert forecast["clips a second"] == pytest.approx(8 * 0.5 * 989)
    assert forecast["hours"] == pytest.approx(64_000 / forecast["clips a second"] / 3_600)
    assert forecast["epochs"] == 10 and forecast["read"] == pytest.approx(0.064)
    assert forecast["cost"] == pytest.approx(forecast["hours"] * 8 * 2)
    assert forecast["read a second"] == pytest.approx(1_000 * forecast["clips a second"])


def test_what_is_trained_in_fp32_is_measured_by_what_a_gpu_does_in_fp32() -> None:
    fast, slow = (make_forecast(a_load(), loop(precision=each), H100)["clips a second"] for each in ("bf16", "fp32"))
    assert slow == pytest.approx(fast * 67 / 989)


def test_sharding_parts_weights_and_needs_no_exchange_in_one_piece() -> None:
    whole, parts = (make_forecast(a_load(), loop(sharding=each), H100) for each in ("ddp", "fsdp"))
    assert parts["optimiser"] == whole["optimiser"] / 8
    with pytest.raises(StopIteration):
        parts["exchange of gradients"]
    assert parts["peak"] < whole["peak"]


def test_what_does_not_fit_is_said_with_what_to_do() -> None:
    assert "MORE THAN the 80 GB" in str(make_forecast(a_load(kept_bytes=75 * 10**9), loop(), H100))
    assert "MORE THAN" not in str(make_forecast(a_load(kept_bytes=50 * 10**9), loop(), H100))


def test_every_number_says_where_it_comes_from() -> None:
    forecast = make_forecast(a_load(), loop(), H100, EpochData(num_clips=10, num_bytes=10))
    origins = [line.origin for lines in forecast.sections.values() for line in lines]
    assert all(each.startswith(("exact", "counted", "estimated", "at ", "data sheet")) for each in origins)


def test_unknown_hardware_and_impossible_shares_are_refused() -> None:
    with pytest.raises(ForecastError, match=r"--hardware: expected cpu, b200, h200, .* found 'voodoo2'"):
        cluster_of("voodoo2", 1, 0.4, 0)
    with pytest.raises(ForecastError, match=r"--mfu: expected .* found 1\.5"):
        cluster_of("h100", 1, 1.5, 0)
    assert cluster_of("CPU", 1, 0.4, 0).hardware.measured


@pytest.mark.slow
def test_the_peak_of_a_forecast_is_that_of_a_real_run_on_a_cpu() -> None:
    """The demo backbone at batch 32, three steps of LAMB in a process of its own: resident memory at its peak."""
    batch = 32
    done = subprocess.run([sys.executable, "-c", _CHILD, str(batch)], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured_gb = int(done.stdout) / 1e9
    a_cpu = Cluster(hardware=Hardware("CPU", 1e11, 0, measured=True))
    forecast = make_forecast(load_of("demo", batch), loop(), a_cpu)
    assert 1 / WITHIN < forecast["peak"] / measured_gb < WITHIN, (str(forecast), measured_gb)


_CHILD = """
import sys, torch
from autorecap.training.loop.lamb import Lamb
from tests.training.forecast.test_forecast import step_of

torch.set_num_threads(1)
model, loss = step_of("demo", int(sys.argv[1]))
optimizer = Lamb(model.parameters())
for _ in range(3):
    loss().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
# Not getrusage: its peak includes that of the process this one was started from.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""
