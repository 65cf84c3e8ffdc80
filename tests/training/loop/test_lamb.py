"""LAMB: the official steps, the same steps on shards, and a state that goes on where it stopped."""

import copy
import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.official.fit import to_official
from autorecap.training.loop.lamb import MAX_NORM, Lamb
from tests.models.genau.backbones.test_fit import TINY, close, inputs, sound
from tests.models.genau.official.test_fit import GRADIENTS, official_tiny, training_loss
from tests.support.genau_vectors import Vectors
from tests.support.places import PROJECT


def plain_step(p: Tensor, g: Tensor, m: Tensor, v: Tensor, lr: float, decay: float) -> Tensor:
    """The definition, one tensor at a time; m and v change in place. Returns the new weights."""
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.99).add_(0.01 * g * g)
    step = m / (v.sqrt() + 1e-8) + decay * p
    trust = p.norm().clamp(max=MAX_NORM) / step.norm() if p.norm() > 0 and step.norm() > 0 else 1.0
    return p - lr * trust * step


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


def train_officially(vectors: Vectors, **settings: float) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Losses before each of three steps on one batch, and the weights after each, by their official names."""
    model = official_tiny(vectors)
    optimizer = Lamb(model.parameters(), **{"weight_decay": 0.01, **settings})  # type: ignore[arg-type]
    losses, weights = [], []
    for _ in range(3):
        loss, _ = training_loss(model, vectors)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        weights.append({to_official(name, 2): tensor.clone() for name, tensor in model.state_dict().items()})
    return losses, weights


def test_losses_after_each_step_on_fit_are_the_official_ones(vectors: Vectors) -> None:
    losses, _ = train_officially(vectors)
    for loss, name in zip(losses, ("train.loss", "lamb.loss_at_step2", "lamb.loss_at_step3"), strict=True):
        close(loss, vectors[name], 1e-6)


@pytest.mark.parametrize("setting", [{"weight_decay": 0.0}, {"weight_decay": 0.1}, {"eps": 1e-6}], ids=str)
def test_the_losses_would_tell_another_setting(vectors: Vectors, setting: dict) -> None:
    losses, _ = train_officially(vectors, **setting)
    assert abs(float(losses[1] / vectors["lamb.loss_at_step2"]) - 1) > 2e-5


def test_weights_after_each_step_on_fit_are_the_official_ones(vectors: Vectors) -> None:
    _, weights = train_officially(vectors)
    for i, names in enumerate((GRADIENTS, GRADIENTS[:3])):
        for name in names:
            close(weights[i][name], vectors[f"lamb.step{i + 1}.{name}"])


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_the_definition(decay: float) -> None:
    torch.manual_seed(0)
    shapes = ((3, 5), (7,), (100, 40), (1,), ())
    weights = [torch.randn(shape) for shape in shapes]
    weights[2] *= 100  # a norm far above the limit
    weights[3].zero_()
    parameters = [nn.Parameter(w.clone()) for w in weights]
    optimizer = Lamb(parameters, weight_decay=decay)
    moments = [(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    for _ in range(3):
        for i, p in enumerate(parameters):
            p.grad = torch.randn_like(p)
            weights[i] = plain_step(weights[i], p.grad, *moments[i], lr=5e-3, decay=decay)
        optimizer.step()
        for p, w in zip(parameters, weights, strict=True):
            torch.testing.assert_close(p.detach(), w, atol=1e-6, rtol=1e-5)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
        optimizer = Lamb(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(5, 8)).square().sum().backward()
            optimizer.step()
        return list(model.parameters())

    whole = train()
    monkeypatch.setattr("autorecap.training.loop.lamb._CPU_CHUNK", 100)
    assert all(torch.equal(a, b) for a, b in zip(whole, train(), strict=True))


def test_weights_without_a_gradient_stay() -> None:
    idle, busy = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    busy.grad = torch.ones(3)
    optimizer = Lamb([idle, busy])
    optimizer.step()
    assert bool((idle == 1).all())
    assert not bool((busy == 1).any())
    assert len(optimizer.state) == 1


def test_groups_have_their_own_settings() -> None:
    fast, slow = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = Lamb([{"params": [fast], "lr": 1e-1}, {"params": [slow], "weight_decay": 0.0}], lr=1e-3)
    fast.grad = slow.grad = torch.ones(3)
    optimizer.step()
    torch.testing.assert_close(fast.detach(), torch.full((3,), 1 - 0.1), atol=1e-6, rtol=0)
    torch.testing.assert_close(slow.detach(), torch.full((3,), 1 - 0.001), atol=1e-6, rtol=0)


def test_training_goes_on_from_a_state_bit_for_bit() -> None:
    torch.manual_seed(0)
    first = nn.Linear(6, 3)
    batches = torch.randn(6, 4, 6)

    def steps(model: nn.Linear, optimizer: Lamb, which: range) -> None:
        for i in which:
            optimizer.zero_grad()
            model(batches[i]).square().sum().backward()
            optimizer.step()

    optimizer = Lamb(first.parameters())
    steps(first, optimizer, range(3))
    second = nn.Linear(6, 3)
    second.load_state_dict(first.state_dict())
    resumed = Lamb(second.parameters(), lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file would: nothing shared
    steps(first, optimizer, range(3, 6))
    steps(second, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_defaults_are_those_of_the_paper() -> None:
    defaults = Lamb([nn.Parameter(torch.ones(1))]).defaults
    assert defaults == {"lr": 5e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}  # D.2


@pytest.mark.parametrize("setting", [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": 0.0}, {"weight_decay": -0.1}])
def test_settings_out_of_range_are_named(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Lamb([nn.Parameter(torch.ones(1))], **setting)


# --- shards


@pytest.mark.slow  # starts two processes
def test_two_ranks_with_shards_take_the_steps_of_one_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--module", __name__],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert done.stdout.count("equal") == 2


def compare_shards() -> None:
    """What each of two ranks runs: FSDP2 against the same model whole, with the same batch."""
    from torch import distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, distribute_tensor

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        mesh = init_device_mesh("cpu", (2,))
        torch.manual_seed(0)
        fits = [Fit(dataclasses.replace(TINY, dropout=0.0)) for _ in range(2)]
        fits[1].load_state_dict(fits[0].state_dict())
        for block in fits[1].blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(fits[1], mesh=mesh)
        given = inputs(TINY)
        steppers = [Lamb(fit.parameters()) for fit in fits]
        for _ in range(3):
            for fit, stepper in zip(fits, steppers, strict=True):
                stepper.zero_grad()
                fit(*given, mask_BT=sound(11, 32)).eps.square().mean().backward()
                stepper.step()
        for name, p in fits[1].named_parameters():
            assert isinstance(p, DTensor)
            torch.testing.assert_close(p.full_tensor(), fits[0].get_parameter(name), atol=1e-5, rtol=1e-4)

        # widths that two ranks cannot share evenly, one of them smaller than the number of ranks
        whole, sharded = (nn.Sequential(nn.Linear(7, 9), nn.GELU(), nn.Linear(9, 1)) for _ in range(2))
        sharded.load_state_dict(whole.state_dict())
        fully_shard(sharded, mesh=mesh)
        optimizers = Lamb(whole.parameters(), lr=0.1), Lamb(sharded.parameters(), lr=0.1)

        def step() -> None:
            x = torch.randn(4, 7)
            for model, optimizer in zip((whole, sharded), optimizers, strict=True):
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()

        def compare() -> None:
            for name, p in sharded.named_parameters():
                assert isinstance(p, DTensor)
                torch.testing.assert_close(p.full_tensor(), whole.get_parameter(name), atol=1e-6, rtol=1e-5)

        for _ in range(5):
            step()
        compare()
        state = optimizers[1].state_dict()
        assert all(isinstance(t, DTensor) for entry in state["state"].values() for t in entry.values())
        fresh = Lamb(sharded.parameters(), lr=0.1)
        fresh.load_state_dict(state)
        optimizers = optimizers[0], fresh
        for _ in range(5):
            step()
        compare()
        # tensors of several shardings in one optimiser
        mixed = [nn.Parameter(distribute_tensor(torch.ones(4, 3), mesh)), nn.Parameter(torch.ones(3))]
        mixed[0].grad, mixed[1].grad = distribute_tensor(torch.ones(4, 3), mesh), torch.ones(3)
        Lamb(mixed, lr=0.1).step()
        torch.testing.assert_close(mixed[0].full_tensor(), torch.full((4, 3), 0.9))  # type: ignore[attr-defined]
        print("equal")
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    compare_shards()
