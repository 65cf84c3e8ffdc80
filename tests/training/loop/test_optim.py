"""The learning rate is that of the released code, and only matrices decay."""

import pytest
import torch
from torch import nn

from autorecap.training.loop.optim import learning_rate, parameter_groups
from tests.support.genau_vectors import Vectors


def test_the_learning_rate_warms_up_and_falls_to_its_end() -> None:
    rates = [learning_rate(step, peak=1.0, steps=100, warmup_steps=10, min_share=0.1) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 500)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_adamw_lets_only_matrices_decay() -> None:
    decayed, rest = parameter_groups(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)).parameters(), 0.1)
    assert [p.ndim for p in decayed["params"]] == [2]
    assert [p.ndim for p in rest["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("steps", [220_000, 80_000_000])
def test_the_learning_rate_is_the_official_one(steps: int) -> None:
    """The released code looks at its schedule at every tenth step only."""
    vectors = Vectors()
    found = [
        learning_rate(step // 10 * 10, peak=5e-3, steps=steps, warmup_steps=5_000, min_share=0.0015 / 0.005)
        for step in vectors[f"lr.max{steps}.steps"].tolist()
    ]
    torch.testing.assert_close(torch.tensor(found).double(), vectors[f"lr.max{steps}.lr"].double(), rtol=0, atol=1e-9)
