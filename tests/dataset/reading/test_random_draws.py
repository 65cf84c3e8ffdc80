"""The registry of random draws and demo/random_draws.py: purposes differ, numbers stay, nobody draws beside them."""

import re

import numpy as np
import pytest
import torch

from autorecap.dataset.reading.random_draws import TrainingDraw, numpy_generator, torch_generator
from autorecap.demo.random_draws import DemoDraw, generator_without_purpose
from tests.support.places import PROJECT

ROOMS = ("base", "cli", "cluster", "dataset", "demo", "models", "pipeline", "stages", "training")
SEEDED_BY_A_LIST = re.compile(r"SeedSequence|default_rng\(\s*[\[(]")


@pytest.mark.parametrize("family", [TrainingDraw, DemoDraw])
def test_no_two_purposes_of_a_family_share_a_number(family: type[TrainingDraw] | type[DemoDraw]) -> None:
    numbers = [purpose.value for purpose in family.__members__.values()]  # names of the same number are members too
    assert len(numbers) == len(set(numbers)) > 1


def test_purposes_keep_the_numbers_that_old_checkpoints_were_trained_with() -> None:
    """Renumbering changes what a resumed run draws."""
    assert {purpose.name: purpose.value for purpose in TrainingDraw} == {
        "EXAMPLE": 1,
        "SPEC_AUGMENT": 3,
        "ORDER": 4,
        "POSTERIOR": 5,
        "NOISE": 6,
        "TIMESTEP": 7,
        "DROPPED_CONDITION": 8,
        "PIECE": 9,
    }
    assert {purpose.name: purpose.value for purpose in DemoDraw} == {
        "SCENE": 1,
        "TEXTS": 2,
        "BANK_SOUND": 5,
        "BANK_SCENE": 6,
    }


def test_a_generator_is_that_of_seed_purpose_and_position() -> None:
    """The same numbers as ever: those of numpy's seed sequences."""
    for purpose in (*TrainingDraw, *DemoDraw):
        for position in ((0,), (7,), (1, 2, 3)):
            drawn = numpy_generator(3, purpose, *position).random(4)
            assert drawn.tolist() == np.random.default_rng([3, purpose.value, *position]).random(4).tolist()
        state = np.random.SeedSequence([3, purpose.value, 7]).generate_state(1, np.uint64)[0]
        expected = torch.rand(4, generator=torch.Generator().manual_seed(int(state) >> 1))
        assert torch.equal(torch.rand(4, generator=torch_generator(3, purpose, 7)), expected)
    assert generator_without_purpose(3, 9).random() == np.random.default_rng([3, 9]).random()


def test_purposes_seeds_and_positions_have_streams_of_their_own() -> None:
    streams = [
        tuple(numpy_generator(seed, purpose, position).random(2))
        for seed in (0, 1)
        for purpose in TrainingDraw
        for position in range(50)
    ]
    assert len(set(streams)) == len(streams)


def test_nobody_seeds_by_a_list_of_numbers_beside_the_registry() -> None:
    files = [path for room in ROOMS for path in sorted((PROJECT / room).rglob("*.py"))]
    found = [path.relative_to(PROJECT).as_posix() for path in files if SEEDED_BY_A_LIST.search(path.read_text())]
    assert found == ["dataset/reading/random_draws.py", "demo/random_draws.py"]
