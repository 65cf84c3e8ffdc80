"""The count of operations, against torch's counter and the official model's figures."""

import dataclasses
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES, ContextConfig, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.flops import flops


def counted(config: FitConfig, batch: int, frames: int, num_words: int) -> tuple[int, int]:
    """Forward, and forward and backward, as torch counts the products that are really computed."""
    width = config.context.summary_width
    with FakeTensorMode():  # tensors without values: counts are the same, and sizes do not matter
        model = Fit(config)
        text = Text(
            torch.empty(batch, width) if width else None,
            torch.empty(batch, num_words, config.context.word_width) if num_words else None,
        )
        given = (torch.empty(batch, config.channels, frames), torch.empty(batch), text)
        # The plain attention is made of products that the counter knows; the CPU's fused one it does not.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            eps = model(*given, torch.zeros(batch, dtype=torch.long)).eps
            forward = counter.get_total_flops()
            eps.sum().backward()
    return int(forward), int(counter.get_total_flops())


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_counted_to_the_last_operation(size: str) -> None:
    config = SIZES[size]
    assert (flops(config), flops(config, backward=True)) == counted(config, 1, 256, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 2, "group_size": 16},
        {"num_latents": 64, "patch_width": 256},
        {"local_layers": 3, "global_layers": 1, "num_blocks": 3, "latent_width": 64},
        {"context": ContextConfig(width=32, summary_width=0)},
        {"context": ContextConfig(width=256, summary_width=96, word_width=48)},
    ],
    ids=str,
)
def test_ablations_batches_durations_and_words_are_counted(change: dict) -> None:
    config = dataclasses.replace(SIZES["demo"], **change)
    num_words = 7 if config.context.word_width else 0
    expected = counted(config, 3, 96, num_words)
    options: dict[str, Any] = {"batch": 3, "frames": 90, "num_words": num_words}  # 90 frames are three groups of 32
    assert (flops(config, **options), flops(config, backward=True, **options)) == expected


@pytest.mark.parametrize(
    ("size", "forward", "both"), [("s", 245.6, 736.6), ("l", 632.4, 1_897.2), ("yaml", 11.30, 33.9)]
)
def test_the_official_figures(size: str, forward: float, both: float) -> None:
    config = SIZES[size]
    assert flops(config) / 1e9 == pytest.approx(forward, abs=0.05)
    assert flops(config, backward=True) / 1e9 == pytest.approx(both, abs=0.05)


def test_a_short_clip_costs_its_share() -> None:
    assert flops(SIZES["l"], frames=50) < 0.26 * flops(SIZES["l"])  # 2 s are two groups of eight
