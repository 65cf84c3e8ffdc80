"""Charts: long lines are thinned, and any finite values have axes."""

import re

import pytest

from autorecap.training.report.charts import MAX_POINTS, Chart, Line, draw, plain


def test_long_lines_are_thinned_to_means_with_their_range_behind_them() -> None:
    values = [(step, float(step % 2)) for step in range(1, 10_001)]
    html = draw(Chart("loss", [Line("training", values, "train")], plain))
    (points,) = re.findall(r'<polyline points="([^"]+)"', html)
    heights = {float(point.split(",")[1]) for point in points.split()}
    assert len(points.split()) <= MAX_POINTS and all(440 < height < 560 for height in heights)
    (band,) = re.findall(r'<polygon points="([^"]+)"', html)
    assert {float(point.split(",")[1]) for point in band.split()} == {0.0, 1_000.0}


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0], [0.0, 0.0], [1e-12, 2e-12], [-5.0, 7e9], [1e-6, 10.0]])
def test_any_finite_values_have_axes(values: list[float]) -> None:
    points = list(enumerate(values, start=1))
    html = draw(Chart("x", [Line("x", points, "train")], plain, log=True, zero=False))
    places = [float(place) for place in re.findall(r'style="top:([-\d.]+)%"', html)]
    assert len(places) >= 2 and all(-0.1 <= place <= 100.1 for place in places)
