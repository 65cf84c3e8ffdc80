"""Guidance takes one forward of what is needed; noise depends on prompt, seed and number alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.backbone import Prediction, Text
from autorecap.models.genau.sampling.guidance import Guided, Noise, Take
from autorecap.models.genau.text.conditioning import Condition


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


class Recorder(torch.nn.Module):
    """A backbone that says what its text is, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.previous: list[Tensor | None] = []

    def forward(self, x_BCT, timesteps_B, text, dataset_ids_B, mask_BT=None, previous_latents=None):
        assert len(x_BCT) == len(timesteps_B) == len(dataset_ids_B) == len(text.summary_BW)
        self.batches.append(len(x_BCT))
        self.previous.append(previous_latents)
        eps = text.summary_BW[:, :1, None].expand(x_BCT.shape) + dataset_ids_B[:, None, None]
        return Prediction(eps, text.summary_BW[:, None])


def conditions(batch: int) -> tuple[Condition, Condition]:
    with_text = Condition(Text(torch.full((batch, 2), 3.0)), torch.full((batch,), 2))
    return with_text, Condition(Text(torch.zeros(1, 2)), torch.tensor([1]))


def guided_by(backbone: Any, batch: int, scale: float, **options: Any) -> Guided:
    return Guided(backbone, *conditions(batch), scale, **options)


@pytest.mark.parametrize(("scale", "output", "batch"), [(3.5, 15.0, 4), (1, 5.0, 2), (0, 1.0, 2), (0.5, 3.0, 4)])
def test_guidance_is_one_forward_of_what_is_needed(scale, output, batch):
    backbone = Recorder()
    guided = guided_by(backbone, 2, scale, remember=True)
    x, t = torch.zeros(2, 3, 4), torch.tensor([9, 9])
    for _ in range(2):
        torch.testing.assert_close(guided(x, t), torch.full((2, 3, 4), output))
    assert backbone.batches == [batch, batch]
    # both parts get the latents of the part with text, if there is one
    assert backbone.previous[0] is None
    assert backbone.previous[1].flatten().tolist() == [3.0 if scale else 0.0] * 2 * batch


def test_without_self_conditioning_no_latents_go_back():
    backbone = Recorder()
    guided = guided_by(backbone, 2, 2.0)
    for _ in range(2):
        guided(torch.zeros(2, 3, 4), torch.tensor([9, 9]))
    assert backbone.previous == [None, None]


@pytest.mark.parametrize("scale", [-1, math.nan, math.inf])
def test_a_guidance_scale_that_means_nothing_is_refused(scale):
    with pytest.raises(ValueError, match="guidance_scale is"):
        guided_by(Recorder(), 1, scale)


def test_noise_depends_on_prompt_seed_and_number_alone():
    takes = [Take("rain", 5, 0), Take("rain", 5, 1), Take("rain", 6, 0), Take("wind", 5, 0), Take("\ud800", 5, 0)]
    together = Noise(takes, [8, 5, 8, 8, 8], 3, 16)
    first, second = together.draw(torch.device("cpu")), together.draw(torch.device("cpu"))
    assert first.shape == (5, 3, 16) and not first[1, :, 5:].any() and not first[0, :, 8:].any()
    assert len({tuple(row[:, :5].flatten().tolist()) for row in (*first, *second)}) == 10
    for i, take in enumerate(takes):
        alone = Noise([take], [[8, 5, 8, 8, 8][i]], 3, 8)
        assert torch.equal(alone.draw(torch.device("cpu"))[0], first[i, :, :8])
        assert torch.equal(alone.draw(torch.device("cpu"))[0], second[i, :, :8])


def test_a_longer_sound_begins_with_the_noise_of_a_shorter_one():
    take = Take("rain", 5, 0)
    short, long = (Noise([take], [frames], 16, 8).draw(torch.device("cpu")) for frames in (4, 8))
    assert torch.equal(short[..., :4], long[..., :4])
