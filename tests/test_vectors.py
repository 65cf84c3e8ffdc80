"""The recipes that tests draw weights from are those of the vectors, and every vector is described."""

import numpy as np

from tests.support.genau_vectors import Vectors, fill
from tests.support.places import VECTORS


def test_the_recipe_of_genau_is_that_of_its_numbers():
    drawn = fill("blocks.0.local_layers.0.0.to_q.weight", (4, 6))
    np.testing.assert_allclose(drawn, Vectors()["recipe_probe"], rtol=1e-6)


def test_the_readme_names_every_file_and_folder_of_vectors():
    described = (VECTORS / "README.md").read_text()
    listed = [path.relative_to(VECTORS) for path in [*VECTORS.iterdir(), *(VECTORS / "parity").iterdir()]]
    missing = [str(path) for path in listed if f"`{path}" not in described and path.name not in ("README.md", "parity")]
    assert not missing
