"""Logs of a run: CSV and JSON always, TensorBoard if it is installed, Weights & Biases on request, lines for people."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autorecap.base.errors import ForeseenError
from autorecap.base.text import duration


class CsvLog:
    """Writes a row per call. On resume it drops the rows after the checkpoint, which are written again."""

    def __init__(self, path: Path, resumed_at: int = 0) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            path.unlink()
            for row in rows:
                if row.get("step", "").isdecimal() and int(row["step"]) <= resumed_at:
                    self(row)

    def __call__(self, line: Mapping[str, Any]) -> None:
        if not self.path.exists():
            self._columns = list(line)
            with self.path.open("w", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writeheader()
        elif new := [name for name in line if name not in self._columns]:
            # The first rows had fewer numbers, because all their steps were skipped: extend the header.
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            self._columns += new
            with self.path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, self._columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(line)


class JsonLog:
    """Writes a JSON object as a line per call. On resume it drops the lines after the checkpoint."""

    def __init__(self, path: Path, resumed_at: int = 0) -> None:
        self.path = path
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _step_of(line) <= resumed_at]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def __call__(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut off when the process was killed
        return float("inf")


def tensorboard(folder: Path, resumed_at: int = 0) -> Callable[[Mapping[str, float]], None]:
    """Return a log of scalars for TensorBoard; one that does nothing if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda line: None
    writer = SummaryWriter(str(folder), purge_step=resumed_at + 1 if resumed_at else None)

    def log(line: Mapping[str, float]) -> None:
        for name, value in line.items():
            if name not in ("step", "eta_s"):
                writer.add_scalar(name, value, int(line["step"]))
        writer.flush()

    return log


def wandb(
    project: str, folder: Path, settings: Mapping[str, Any], resumed_at: int
) -> Callable[[Mapping[str, Any]], None]:
    """Return a log for Weights & Biases, in which a resumed run goes on. Raises ForeseenError if it is missing."""
    try:
        import wandb as package
    except ImportError:
        raise ForeseenError(
            "run.wandb is set, but wandb is not installed: pip install wandb, or leave it out"
        ) from None
    id_file = folder / "wandb.txt"
    run_id = id_file.read_text() if resumed_at and id_file.exists() else None
    run = package.init(
        project=project, dir=str(folder), name=folder.name, config=dict(settings), id=run_id, resume="allow"
    )
    id_file.write_text(run.id)

    def log(line: Mapping[str, Any]) -> None:
        run.log({name: value for name, value in line.items() if name != "step"}, step=int(line["step"]))

    return log


def for_people(line: Mapping[str, float]) -> str:
    """Return the line as text: step, numbers, and the time until the run is done."""
    numbers = "  ".join(f"{name} {value:.3g}" for name, value in line.items() if name not in ("step", "eta_s"))
    return f"step {int(line['step']):>6}  {numbers}  ready in {duration(round(line['eta_s']))}"
