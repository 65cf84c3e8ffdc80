"""The average of the weights: how fast it forgets, that skipped steps do not count, and how it takes their place."""

import pytest
import torch
from torch import Tensor, nn

from autorecap.training.loop.ema import Average


def averaged(values: list[float], decay: float, counts: list[float]) -> tuple[nn.Parameter, Average]:
    p = nn.Parameter(torch.zeros(2))
    average = Average({"p": p}, decay)
    for step, (value, count) in enumerate(zip(values, counts, strict=True)):
        with torch.no_grad():
            p.fill_(value)
        average.update(step, torch.tensor(count))
    return p, average


def test_a_young_average_forgets_faster_and_a_skipped_step_does_not_count() -> None:
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0)):
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    _, average = averaged([1.0, 2.0, 3.0, 99.0], 0.15, [1, 1, 1, 0])
    assert average.tensors["p"].tolist() == pytest.approx([expected] * 2)


def test_within_the_model_has_the_averages_and_its_own_weights_afterwards_even_after_an_error() -> None:
    p, average = averaged([4.0], 0.5, [1])
    mean, weight = average.tensors["p"].clone(), p.detach().clone()

    def same(a: Tensor, b: Tensor) -> bool:
        return torch.equal(a.detach(), b)

    with pytest.raises(ZeroDivisionError), average.in_place():
        assert same(p, mean) and same(average.tensors["p"], weight)
        raise ZeroDivisionError
    assert same(p, weight) and same(average.tensors["p"], mean)
