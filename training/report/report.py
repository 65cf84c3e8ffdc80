"""Report of a run: one self-contained HTML page with curves, samples over steps to listen to, numbers and settings.

It is made from the files of the run (log.jsonl, samples/, settings.json), so it can be made at any time, also of a run
that was killed. The page loads nothing from elsewhere, and no text in it is taken for markup.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from autorecap.base.files import write_whole
from autorecap.base.text import printable
from autorecap.base.wav import read_wav
from autorecap.training.report.charts import Chart, Line, draw, gigabytes, percent, plain
from autorecap.training.report.spectrogram import spectrogram

REPORT = "report.html"
TEMPLATE = Path(__file__).with_name("report_template.html")
MAX_SAMPLES = 10
"""Steps whose sounds the page holds, per prompt: the first, the last, and some between."""
MAX_AUDIO_MB = 40.0
NUM_ROWS = 20  # of the tables of the last logged numbers
STALL = 0.01  # share of the time spent waiting for data from which on the page mentions it
_NUM_COLOURS = 10  # of timestep bins in the template

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Take:
    """One sound, made at a step for a prompt."""

    step: int
    prompt: str
    path: Path


def write_report(run: Path) -> Path:
    """Write RUN/report.html anew, and return its path. A reader sees the new page or the old one, never a part."""
    rows = read_log(run / "log.jsonl")
    settings = _read_json(run / "settings.json")
    text = page(run.resolve().name, rows, find_takes(run / "samples"), settings)
    write_whole(run / REPORT, text.encode())
    return run / REPORT


def page(name: str, rows: Sequence[Row], takes: Sequence[Take], settings: Any = None) -> str:
    """Return the page as HTML."""
    train = [row for row in rows if row.get("kind", "train") == "train"]
    held_out = [row for row in rows if row.get("kind") == "validation"]
    parts = {
        "title": escape(printable(name)),
        "summary": _summary(train, held_out, settings),
        "charts": "".join(draw(chart) for chart in charts(train, held_out)) or '<p class="quiet">No numbers yet.</p>',
        "samples": _samples(takes),
        "table": _table(train[-NUM_ROWS:], "No numbers yet.") + _table(held_out[-NUM_ROWS:], ""),
        "settings": _settings(settings),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)  # in one pass: texts are no templates


# --- files of the run


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of log.jsonl, without a line that was cut off when the run was killed."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def find_takes(folder: Path) -> list[Take]:
    """Return the sounds in samples/STEP/ with their prompts, in the order of steps."""
    takes: list[Take] = []
    for each in folder.glob("*/") if folder.is_dir() else ():
        if not each.name.isdecimal():
            continue
        prompts = _read_json(each / "prompts.json")
        prompts = prompts if isinstance(prompts, list) else []
        for path in sorted(each.glob("*.wav"), key=lambda p: (len(p.stem), p.stem)):
            number = int(path.stem) if path.stem.isdecimal() else -1
            prompt = prompts[number] if 0 <= number < len(prompts) else path.stem
            if isinstance(prompt, dict):
                prompt = prompt.get("prompt", path.stem)
            takes.append(Take(int(each.name), str(prompt), path))
    return sorted(takes, key=lambda take: take.step)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# --- curves

_PARTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "lr": ("learning rate", plain),
    "grad_norm": ("norm of the gradient, before clipping", plain),
    "samples_per_s": ("clips a second", plain),
    "waited_share": ("share of the time waiting for data", percent),
    "mfu": ("share of the hardware's peak (MFU)", percent),
    "memory_gb": ("memory", gigabytes),
    "skipped": ("steps skipped in a row: loss or gradient not finite", plain),
    "unreadable": ("clips that could not be read, so far", plain),
}
_NOT_DRAWN = {"step", "kind", "eta_s"}
_ONLY_IF_ANY = {"skipped", "unreadable"}
_BIN = re.compile(r"validation_loss_\D*(\d+)(?:\D+(\d+))?")


def charts(train: Sequence[Row], held_out: Sequence[Row]) -> list[Chart]:
    """Return a chart for all numbers that were logged."""
    drawn = []
    loss = [
        Line("training", _points(train, "loss"), "train"),
        Line("validation", _points(held_out, "validation_loss"), "held-out"),
    ]
    if lines := [line for line in loss if line.points]:
        drawn.append(Chart("loss", lines, plain, log=True))
    bins = {name: tuple(int(n) for n in b.groups() if n) for name in _names(held_out) if (b := _BIN.fullmatch(name))}
    if bins:
        ordered = sorted(bins, key=lambda name: bins[name])
        lines = [
            Line(_between(bins[name]), _points(held_out, name), f"bin{i * (_NUM_COLOURS - 1) // max(len(bins) - 1, 1)}")
            for i, name in enumerate(ordered)
        ]
        drawn.append(Chart("validation loss by timestep", lines, plain, log=True))
    others = [(name, train, "train") for name in _names(train) if name not in (*_PARTS, *_NOT_DRAWN, "loss")]
    others += [
        (name, held_out, "held-out") for name in _names(held_out) if name not in (*_NOT_DRAWN, *bins, "validation_loss")
    ]
    for name, rows, colour in others:
        if points := _points(rows, name):
            title = name.replace("_", " ")
            drawn.append(Chart(title, [Line(title, points, colour)], plain, log=True))
    for name, (title, form) in _PARTS.items():
        points = _points(train, name)
        if points and (name not in _ONLY_IF_ANY or any(value for _, value in points)):
            drawn.append(Chart(title, [Line("now", points, "plain")], form, log=name == "grad_norm", zero=True))
    return drawn


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _points(rows: Iterable[Row], name: str) -> list[tuple[int, float]]:
    """Return the finite values by step. Of a step that was logged again after a resume, the last value counts."""
    values: dict[int, float] = {}
    for row in rows:
        value = row.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            values[row["step"]] = float(value)
    return sorted(values.items())


def _between(numbers: tuple[int, ...]) -> str:
    return f"{numbers[0]} to {numbers[1]}" if len(numbers) == 2 else f"{numbers[0]}"


# --- words and numbers


def _summary(train: Sequence[Row], held_out: Sequence[Row], settings: Any) -> str:
    if not train:
        return '<p class="quiet">Nothing has been logged yet.</p>'
    last = train[-1]
    steps = _steps(settings)
    key = {"step": f"{last['step']:,}" + (f" of {steps:,}" if steps else "")}
    key |= _key("loss", last, "loss", plain)
    for row in held_out[-1:]:
        key |= _key("validation loss", row, "validation_loss", plain)
    key |= _key("clips a second", last, "samples_per_s", plain)
    key |= _key("waiting for data", last, "waited_share", percent)
    key |= _key("MFU", last, "mfu", percent)
    key |= _key("memory", last, "memory_gb", gigabytes)
    eta_s = last.get("eta_s")
    if isinstance(eta_s, (int, float)) and math.isfinite(eta_s):
        key["ready in"] = _duration(eta_s) if eta_s > 0 else "ready"
    boxes = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in key.items())
    waits = _points(train, "waited_share")
    stalls = [(step, share) for step, share in waits if share > STALL]
    words = ""
    if waits:
        worst_step, worst = max(waits, key=lambda point: point[1])
        words = (
            f'<p class="quiet">Data kept up: never more than {percent(worst)} of the time went by in waiting.</p>'
            if not stalls
            else f"<p>Stalls: in {len(stalls):,} of {len(waits):,} logged intervals more than {percent(STALL)} of the "
            f"time went by in waiting for data, at worst {percent(worst)} (step {worst_step:,}). More loop.threads, "
            "or latents in place of sound, would help.</p>"
        )
    return f'<dl class="key">{boxes}</dl>{words}'


def _key(label: str, row: Row, name: str, form: Callable[[float], str]) -> dict[str, str]:
    value = row.get(name)
    return {label: form(value)} if isinstance(value, (int, float)) and math.isfinite(value) else {}


def _steps(settings: Any) -> int:
    results = settings.get("settings") if isinstance(settings, dict) else None
    steps = results.get("loop.steps") if isinstance(results, dict) else None
    return steps if isinstance(steps, int) else 0


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _table(rows: Sequence[Row], otherwise: str) -> str:
    if not rows:
        return f'<p class="quiet">{otherwise}</p>' if otherwise else ""
    names = [name for name in _names(rows) if name != "kind"]
    head = "".join(f"<th>{escape(printable(name)).replace('_', ' ')}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>" for row in rows)
    what = "validations" if rows[0].get("kind") == "validation" else "logged intervals"
    return (
        f"<details open><summary>The last {len(rows)} {what}</summary>"
        f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div></details>'
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else escape(printable(str(value)))
    return f"{value:,}" if isinstance(value, int) else plain(value) if math.isfinite(value) else str(value)


def _settings(settings: Any) -> str:
    if settings is None:
        return ""
    text = json.dumps(settings, indent=1, ensure_ascii=False)
    return f"<details><summary>Settings and data</summary><pre>{escape(text)}</pre></details>"


# --- sounds


def _samples(takes: Sequence[Take]) -> str:
    if not takes:
        return ""
    prompts = list(dict.fromkeys(take.prompt for take in takes))
    chosen = set(_spread(sorted({take.step for take in takes}), MAX_SAMPLES))
    room = MAX_AUDIO_MB * 1e6
    sections, left_out = [], 0
    for prompt in prompts:
        cards = []
        for take in (take for take in takes if take.prompt == prompt):
            data = take.path.read_bytes() if take.step in chosen else b""
            if not data or len(data) > room or (card := _card(take, data)) is None:
                left_out += 1
                continue
            room -= len(data)
            cards.append(card)
        if cards:
            sections.append(
                f'<section class="prompt"><h3>{escape(printable(prompt))}</h3>'
                f'<div class="takes">{"".join(cards)}</div></section>'
            )
    note = f'<p class="quiet">{left_out} more sounds are in samples/ beside this page.</p>' if left_out else ""
    return f"<h2>Samples over steps</h2>{''.join(sections)}{note}"


def _card(take: Take, data: bytes) -> str | None:
    """Return picture and player of a sound as HTML; None if the file is no WAV file."""
    try:
        samples, rate = read_wav(data)
    except ValueError:
        return None
    picture, sound = (base64.b64encode(each).decode() for each in (spectrogram(samples, rate), data))
    return (
        f'<div class="take"><img alt="spectrogram" src="data:image/png;base64,{picture}">'
        f'<audio controls preload="none" src="data:audio/wav;base64,{sound}"></audio>'
        f"<span>step {take.step:,}</span></div>"
    )


def _spread(steps: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of the steps, evenly spread, with the first and the last."""
    if len(steps) <= count:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (count - 1))] for i in range(count)]
