"""Charts of curves as inline SVG with labels in HTML: they fill any width, and need neither a script nor a library.

A chart is a box with the lines in it, stretched to its size; ticks and legends stand around it as text, which is not
stretched. A script shows values under the pointer; its data lies beside the chart as JSON.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

MAX_POINTS = 600
"""Points per line, which is more than there are pixels. Longer lines become means with the range behind them."""
_LOG_RATIO = 30  # a line that spans a larger ratio gets a logarithmic axis, if its chart allows it
_SIZE = 1_000  # width and height of the box, in its own units


@dataclass(frozen=True)
class Line:
    """One curve: values over steps."""

    label: str
    points: Sequence[tuple[int, float]]
    colour: str  # a CSS custom property, without its dashes


@dataclass(frozen=True)
class Chart:
    """Curves that share their axes."""

    title: str
    lines: Sequence[Line]
    form: Callable[[float], str]
    log: bool = False  # whether a logarithmic axis is allowed
    zero: bool = False  # whether 0 belongs to the axis
    note: str = ""


@dataclass(frozen=True)
class _Thinned:
    """A line as it is drawn: means over neighbouring points, and their ranges."""

    line: Line
    steps: list[int]
    means: list[float]
    lows: list[float]
    highs: list[float]


def draw(chart: Chart) -> str:
    """Return the chart as HTML."""
    thinned = [_thin(line) for line in chart.lines]
    first, last = min(t.steps[0] for t in thinned), max(t.steps[-1] for t in thinned)
    values = [value for t in thinned for value in (*t.lows, *t.highs)]
    low, high = min(values), max(values)
    log = chart.log and low > 0 and high / low > _LOG_RATIO
    if chart.zero and not log:
        low, high = min(low, 0.0), max(high, 0.0)
    ticks = _log_ticks(low, high) if log else _ticks(low, high)
    if not log:
        low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        return _SIZE * (step - first) / (last - first) if last > first else _SIZE / 2

    def y(value: float) -> float:
        if log:
            return _SIZE * (1 - math.log(value / low) / math.log(high / low))
        return _SIZE * (1 - (value - low) / (high - low))

    grid = "".join(f'<line class="grid" x1="0" x2="{_SIZE}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>' for t in ticks)
    drawn = "".join(_path(t, x, y) for t in thinned)
    y_labels = "".join(f'<span style="top:{y(t) / 10:.2f}%">{escape(chart.form(t))}</span>' for t in ticks)
    steps = [t for t in _ticks(first, last, 4) if first <= t <= last and t == int(t)] or [float(first)]
    x_labels = "".join(f'<span style="left:{x(t) / 10:.2f}%">{int(t):,}</span>' for t in steps)
    legend = "".join(
        f'<li><i style="background:var(--{t.line.colour})"></i>{escape(t.line.label)} '
        f"<b>{escape(chart.form(t.line.points[-1][1]))}</b></li>"
        for t in thinned
    )
    axis = f" <small>{'logarithmic' if log else ''}{' · ' if log and chart.note else ''}{escape(chart.note)}</small>"
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}{axis}</figcaption><ul class="legend">{legend}</ul>'
        f'<div class="plot"><div class="y">{y_labels}</div>'
        f'<svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(chart.title)}, steps {first:,} to {last:,}">{grid}{drawn}</svg>'
        f'<div class="x">{x_labels}</div></div>'
        f'<script type="application/json">{_for_script(chart, thinned, first, last)}</script></figure>'
    )


def _path(thinned: _Thinned, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    steps, colour = thinned.steps, f"var(--{thinned.line.colour})"
    mean = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, thinned.means, strict=True))
    shape = f'<polyline points="{mean}" style="stroke:{colour}"/>'
    if len(steps) == 1:  # a line without length but with round ends is a point
        shape = f'<polyline class="point" points="{mean} {mean}" style="stroke:{colour}"/>'
    if thinned.lows != thinned.highs:
        up = [f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, thinned.highs, strict=True)]
        down = [f"{x(s):.1f},{y(v):.1f}" for s, v in zip(steps, thinned.lows, strict=True)]
        shape = f'<polygon points="{" ".join([*up, *reversed(down)])}" style="fill:{colour}"/>' + shape
    return shape


def _for_script(chart: Chart, thinned: Sequence[_Thinned], first: int, last: int) -> str:
    """Return the data of the script as JSON in which no text can end the HTML element."""
    lines = [
        {
            "label": t.line.label,
            "colour": t.line.colour,
            "steps": t.steps,
            "shown": [chart.form(value) for value in t.means],
        }
        for t in thinned
    ]
    return json.dumps({"first": first, "last": last, "lines": lines}).replace("<", "\\u003c")


def _thin(line: Line) -> _Thinned:
    points = list(line.points)
    size = -(-len(points) // MAX_POINTS)
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    values = [[value for _, value in part] for part in parts]
    return _Thinned(
        line=line,
        steps=[part[-1][0] for part in parts],
        means=[sum(v) / len(v) for v in values],
        lows=[min(v) for v in values],
        highs=[max(v) for v in values],
    )


# --- axes


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers around a range."""
    if high <= low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / count
    size = 10 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) if step > 1e-9 else i * step for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers within a range that spans more than `_LOG_RATIO`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = -(-len(decades) // 6)
    digits = (1, 2, 5) if len(decades) <= 3 else (1,)
    return [tick for power in decades[::every] for digit in digits if low <= (tick := digit * 10.0**power) <= high]


# --- numbers


def plain(value: float) -> str:
    """Return the number with three digits."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")


def percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def gigabytes(value: float) -> str:
    return f"{value:.3g} GB"
