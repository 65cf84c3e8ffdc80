"""Requests of a launcher are obeyed after the step at hand: to save, once; to stop, for good."""

from collections.abc import Iterator

import pytest

from autorecap.training.loop.stop_requests import REQUESTS
from autorecap.training.loop.trainer import Trainer
from tests.support.small_training import Numbers, config, silent


@pytest.fixture(autouse=True)
def _none_are_left() -> Iterator[None]:
    yield
    REQUESTS.stop = REQUESTS.save = False


def test_a_request_to_stop_ends_the_run_after_its_step() -> None:
    trainer = Trainer(Numbers(), config())

    def ask() -> None:
        REQUESTS.stop = trainer.step >= 4

    assert trainer.run(silent, after_step=ask) is False
    assert trainer.step == 5


def test_a_request_to_save_counts_once_and_the_run_goes_on() -> None:
    trainer = Trainer(Numbers(), config())
    due: list[int] = []

    def ask() -> None:
        REQUESTS.save = trainer.step == 2
        if trainer.save_due:
            due.append(trainer.step)
            trainer.save_due = False  # whoever saves does so

    assert trainer.run(silent, after_step=ask) is True
    assert due == [3] and trainer.step == 12
