"""GenAu at sizes of which no official numbers are at hand, against a second, plain way of computing it.

That way is checked against the official numbers of the small sizes first.

The models are those of models/genau/backbones/fit.py, models/genau/vae/model.py and models/genau/vocoder/model.py.
"""

import pytest
import torch
from torch import Tensor

from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.backbones.config import SIZES, FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.official.fit import from_official
from autorecap.models.genau.vae.model import VAE
from autorecap.models.genau.vocoder.model import Vocoder
from tests.models.genau.backbones.test_fit import TINY_PATCH2
from tests.models.genau.vae.test_model import SMALL as SMALL_VAE
from tests.models.genau.vocoder.test_model import SMALL as SMALL_VOCODER
from tests.support import genau_official as official
from tests.support.genau_vectors import Vectors

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


def filled(vectors: Vectors, section: str) -> dict[str, Tensor]:
    """A section's tensors by official names, filled by the recipe."""
    shapes = vectors.shapes[section].items()  # a vocoder's have a prefix there, which the recipe does without
    return vectors.fill({name.removeprefix("vocoder."): torch.empty(shape) for name, shape in shapes})


def equal(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest value."""
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@torch.inference_mode()
def test_the_second_way_gives_the_official_numbers(vectors: Vectors) -> None:
    x, y = vectors.input("fit_tiny.x", 2, 8, 32, 1)[..., 0], vectors.input("fit_tiny.y", 2, 1, 48)[:, 0]
    eps = official.fit(filled(vectors, "fit_tiny"), x, torch.tensor([7, 981]), y, torch.tensor([0, 3]), 4, 16)
    equal(eps, vectors["fit_tiny.eps"][..., 0])
    small = vectors.fill(VAE(SMALL_VAE).state_dict())
    mel_BMT = (vectors.input("vae_small.mel", 1, 1, 64, 64) * 2 - 5)[:, 0].mT
    mean_BCN = official.encode(small, mel_BMT)
    equal(mean_BCN, vectors["vae_small.mean"][..., 0])
    equal(official.decode(small, mean_BCN).mT[:, None], vectors["vae_small.dec_of_mean"])
    wav_BS = official.vocode(
        vectors.fill(Vocoder(SMALL_VOCODER).state_dict()), vectors.input("vocoder_small.mel", 1, 64, 16)
    )
    equal(wav_BS[:, None], vectors["vocoder_small.wav"])


@torch.inference_mode()
@pytest.mark.parametrize(
    ("section", "config"),
    [
        ("fit_tiny_patch2", TINY_PATCH2),
        pytest.param("fit_yaml", SIZES["yaml"], marks=SLOW),
        pytest.param("fit_S", SIZES["s"], marks=SLOW),
    ],
)
def test_larger_patches_and_the_papers_size_give_the_same_noise(
    vectors: Vectors, section: str, config: FitConfig
) -> None:
    weights = filled(vectors, section)
    with torch.device("meta"):  # no time is spent on random weights
        model = Fit(config).eval()
    model.load_state_dict(from_official(weights, config)[0], assign=True)
    x = vectors.input(f"{section}.x", 2, config.channels, config.max_frames, 1)[..., 0]
    y = vectors.input(f"{section}.y", 2, 1, config.context.summary_width)[:, 0]
    t, ids = torch.tensor([7, 981]), torch.tensor([0, 3])
    eps = official.fit(weights, x, t, y, ids, config.max_groups, config.head_width)
    equal(model(x, t, Text(y), ids).eps, eps)
