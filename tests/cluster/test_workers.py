"""Workers of a training: how their number is written, and what each of them reserves."""

import pytest

from autorecap.cluster.workers import LaunchError, Workers


def test_a_number_of_workers_is_a_number_or_a_range() -> None:
    assert [str(Workers.parse(text)) for text in ("1", "4", "2:8")] == ["one worker", "4 workers", "2 to 8 workers"]
    assert Workers.parse("2:8", cpus=3) == Workers(least=2, most=8, cpus=3)
    for text in ("0", "8:2", "many", "", "2:", "-1"):
        with pytest.raises(LaunchError, match=f"--workers {text}: write a number, or MIN:MAX"):
            Workers.parse(text)


def test_a_worker_with_a_gpu_takes_no_cpu() -> None:
    workers = Workers.parse("2", cpus=3)
    assert (workers.resources(True), workers.resources(False)) == ({"GPU": 1.0}, {"CPU": 3})
