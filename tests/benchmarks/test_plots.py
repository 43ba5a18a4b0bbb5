"""Charts are well-formed SVG, hold what they were given, and put it where it belongs."""

import xml.etree.ElementTree as ET

import pytest
from benchmarks.plots import bars, curves

NS = "{http://www.w3.org/2000/svg}"


def test_longer_bars_are_longer():
    root = ET.fromstring(bars("A <title>", {"one": 0.5, "two": 2.0, "three": 8.0}, {"one": "a", "two": "b", "three": "b"}))
    widths = [float(r.get("width")) for r in root.iter(f"{NS}rect")][3:]  # behind ground and legend
    assert widths == sorted(widths)
    assert widths[1] - widths[0] == pytest.approx(widths[2] - widths[1], abs=0.2)  # equal ratios, equal steps
    texts = [t.text for t in root.iter(f"{NS}text")]
    assert {"A <title>", "one", "two", "three", "a", "b", "0.5"} <= set(texts)


def test_curves_go_through_their_points():
    root = ET.fromstring(curves("t", "x", "y", {"up": [(1, 1), (10, 10)], "down": [(1, 10), (10, 1)]}))
    up, down = ([tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in root.iter(f"{NS}polyline"))
    assert up[0][0] == down[0][0]
    assert up[0][1] == down[1][1] > up[1][1]  # y grows downwards in SVG


@pytest.mark.parametrize("values", [{}, {"a": 0.0}, {"a": -1.0, "b": 1.0}])
def test_logarithms_need_lengths_above_zero(values):
    with pytest.raises(ValueError, match="above 0"):
        bars("t", values)
    with pytest.raises(ValueError, match="above 0"):
        curves("t", "x", "y", {k: [(1.0, v)] for k, v in values.items()})
