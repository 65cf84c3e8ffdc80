"""FIT against the official model: its numbers, the names and shapes of its weights.

Also proves models/official_tensors.py, by which all official weights are taken.
"""

import pytest
import torch
from torch import Tensor, nn

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.official.fit import config_from_official, from_official, to_official
from tests.models.genau.backbones.test_fit import TINY, TINY_PATCH2, close
from tests.support.genau_vectors import Vectors

OFFICIAL = {
    "fit_tiny": TINY,
    "fit_tiny_patch2": TINY_PATCH2,
    "fit_yaml": SIZES["yaml"],
    "fit_S": SIZES["s"],
    "fit_L": SIZES["l"],
}


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


def official_tiny(vectors: Vectors) -> Fit:
    """The official model's small configuration, filled by its recipe."""
    like = {name: torch.empty(shape) for name, shape in vectors.shapes["fit_tiny"].items()}
    state, unused = from_official(vectors.fill(like), TINY)
    assert unused == []
    model = Fit(TINY).eval()
    model.load_state_dict(state)
    return model


def test_noise_and_latents_are_the_official_ones(vectors: Vectors) -> None:
    model = official_tiny(vectors)
    x, y = vectors.input("fit_tiny.x", 2, 8, 32, 1)[..., 0], vectors.input("fit_tiny.y", 2, 1, 48)[:, 0]
    given = (x, torch.tensor([7, 981]), Text(y), torch.tensor([0, 3]))
    with torch.inference_mode():
        first = model(*given)
        second = model(*given, previous_latents=first.latents)
    close(first.eps, vectors["fit_tiny.eps"][..., 0])
    close(first.latents, vectors["fit_tiny.latents"])
    close(second.eps, vectors["fit_tiny.eps_prevlatents"][..., 0])


def test_loss_and_gradients_are_the_official_ones(vectors: Vectors) -> None:
    model = official_tiny(vectors)
    loss, eps = training_loss(model, vectors)
    loss.backward()
    close(eps.detach(), vectors["train.eps"][..., 0])
    close(loss.detach(), vectors["train.loss"])
    norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # the vectors are what the optimiser got
    close(norm, vectors["train.grad_norm_total"])
    gradients = {to_official(name, 2): p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(dict(model.named_parameters())) - 6  # self-conditioning is never trained
    for name in GRADIENTS:
        close(gradients[name], vectors[f"train.grad.{name}"])


GRADIENTS = (
    "latents",
    "patches_pe",
    "to_patches.0.weight",
    "blocks.0.latents_attend_to_context.to_kv.weight",
    "blocks.1.global_layers.1.1.net.3.bias",
    "blocks.2.local_layers.1.0.norm.gamma",
    "time_mlp.0.weights",
    "dataset_id_conditioning_mlp.0.weight",
)


def training_loss(model: Fit, vectors: Vectors) -> tuple[Tensor, Tensor]:
    noise = vectors.input("train.noise", 2, 8, 32, 1)[..., 0]
    x = vectors["train.x_noisy"][..., 0]
    eps = model(x, torch.tensor([3, 700]), Text(vectors["train.y_concat"]), torch.tensor([0, 2])).eps
    return (eps - noise).square().mean(), eps


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_official_tensor_has_a_place_and_no_other_has(vectors: Vectors, name: str) -> None:
    with torch.device("meta"):
        own = Fit(OFFICIAL[name]).state_dict()
    shapes = {to_official(tensor, OFFICIAL[name].num_blocks): list(value.shape) for tensor, value in own.items()}
    # their norms carry a bias of zeros
    shapes |= {key.replace("gamma", "beta"): shape for key, shape in shapes.items() if key.endswith(".gamma")}
    assert shapes == vectors.shapes[name]


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_size_of_official_weights_is_read_from_their_shapes(vectors: Vectors, name: str) -> None:
    tensors = {key: torch.empty(shape, device="meta") for key, shape in vectors.shapes[name].items()}
    expected = OFFICIAL[name]
    unseen = {"channels": expected.channels, "num_groups": expected.max_groups, "head_width": expected.head_width}
    assert config_from_official(tensors, size=expected.size, **unseen) == expected


@pytest.mark.parametrize(("size", "count"), [("s", 493_366_344), ("l", 1_252_937_288), ("yaml", 70_112_904)])
def test_numbers_of_parameters_are_the_official_ones(size: str, count: int) -> None:
    with torch.device("meta"):
        model = Fit(SIZES[size])
    assert sum(p.numel() for p in model.parameters()) == count


def test_official_weights_that_do_not_fit_are_named() -> None:
    official = {to_official(name, 2): tensor for name, tensor in Fit(TINY).state_dict().items()}
    missing = {name: tensor for name, tensor in official.items() if name != "latents"}
    with pytest.raises(ValueError, match="latents is missing"):
        from_official(missing, TINY)
    with pytest.raises(ValueError, match=r"patches_pe has shape \(7, 7\), expected \(32, 64\)"):
        from_official({**official, "patches_pe": torch.zeros(7, 7)}, TINY)
    with pytest.raises(ValueError, match=r"patch_to_pixels.0.beta is not zero"):
        from_official({**official, "patch_to_pixels.0.beta": torch.ones(64)}, TINY)
    with pytest.raises(ValueError, match="not FIT weights"):
        config_from_official({"encoder.weight": torch.zeros(1)})
    _, unused = from_official(
        {**official, "extra.weight": torch.zeros(1), "patch_to_pixels.0.beta": torch.zeros(64)}, TINY
    )
    assert unused == ["extra.weight"]
