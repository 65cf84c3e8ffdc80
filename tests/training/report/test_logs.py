"""Logs of a run: a row per logged step, means since the last line, nothing twice after a resume."""

from pathlib import Path

import numpy as np
import pytest

from autorecap.training.loop.trainer import Trainer
from autorecap.training.report.logs import CsvLog, for_people
from tests.support.small_training import Numbers, config


def test_the_log_has_a_row_per_logged_step_and_drops_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    Trainer(Numbers(), config()).run(CsvLog(tmp_path / "log.csv"))
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0].startswith("step,loss,twice,grad_norm,lr,")
    assert [row.split(",")[0] for row in rows[1:]] == ["4", "8", "12"]
    log = CsvLog(tmp_path / "log.csv", resumed_at=9)
    log({"step": 10, "extra": 1.5})
    kept = (tmp_path / "log.csv").read_text().splitlines()
    assert kept[0] == rows[0] + ",extra"
    assert [row.split(",")[0] for row in kept[1:]] == ["4", "8", "10"]
    assert kept[1] == rows[1] + ","


def test_a_logged_number_is_the_mean_since_the_last_line() -> None:
    every: list[dict[str, float]] = []
    some: list[dict[str, float]] = []
    Trainer(Numbers(), config(log_every=1)).run(every.append)
    Trainer(Numbers(), config(log_every=4)).run(some.append)
    assert some[1]["loss"] == pytest.approx(np.mean([line["loss"] for line in every[4:8]]))
    assert for_people(some[0] | {"eta_s": 3_723.0}).endswith("ready in 1:02:03")
