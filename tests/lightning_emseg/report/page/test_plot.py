"""Line plots."""

import math
import re
from xml.etree import ElementTree

import pytest

from lightning_emseg.report.page.axis import Axis
from lightning_emseg.report.page.bars import mosaic_bars
from lightning_emseg.report.page.plot import Line, Look, line_plot, look

UNIT = Axis("y", limits=(0.0, 1.0))


def paths(svg: str, kind: str) -> list[str]:
    return [element.attrib["d"] for element in ElementTree.fromstring(svg).iter("path") if element.get("class") == kind]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]


def test_points_lie_at_their_values() -> None:
    line = Line("a", [0, 0.5, 1], [0, 0.25, 1], Look(0, 0))
    ((left, bottom), middle, (right, top)) = points(paths(line_plot("t", [line], UNIT, UNIT).svg, "line")[0])
    assert middle[0] == pytest.approx((left + right) / 2, abs=0.1)
    assert middle[1] == pytest.approx(bottom + 0.25 * (top - bottom), abs=0.1)
    assert left < right
    assert top < bottom


def test_nan_leaves_a_gap() -> None:
    line = Line("a", [0, 0.25, 0.5, 0.75, 1], [0, 0, math.nan, 1, 1], Look(0, 0))
    path = paths(line_plot("t", [line], UNIT, UNIT).svg, "line")[0]
    assert path.count("M") == 2
    assert len(points(path)) == 4


def test_zero_has_no_place_on_a_log_axis() -> None:
    line = Line("a", [1, 10, 100], [5, 0, 7], Look(0, 0))
    plot = line_plot("t", [line], Axis("x", log=True), Axis("y", log=True))
    assert len(points(paths(plot.svg, "line")[0])) == 2


def test_lines_differ_without_colours() -> None:
    lines = [Line(str(number), [0, 1], [0, 1], look(number)) for number in range(36)]
    plot = line_plot("t", lines, UNIT, UNIT)
    drawn = [e for e in ElementTree.fromstring(plot.svg).iter("path") if e.get("class") == "line"]
    assert len({element.attrib["stroke-dasharray"] for element in drawn}) == 6
    assert len(set(paths(plot.svg, "dot"))) == 6
    # Without their colours, which are classes.
    assert len({re.sub(r"c\d", "", str(sample)) for sample, _ in plot.legend}) == 36


def test_error_bars_have_the_height_of_their_errors() -> None:
    line = Line("a", [0.5], [0.5], Look(0, 0), errors=[0.25])
    plot = line_plot("t", [line, Line("b", [0, 0], [0, 1], Look(1, 1))], UNIT, UNIT)
    found = re.fullmatch(r"M[\d.]+ ([\d.]+)V([\d.]+)", paths(plot.svg, "bar")[0])
    assert found is not None
    (_, bottom), (_, top) = points(paths(plot.svg, "line")[1])
    assert float(found[2]) - float(found[1]) == pytest.approx(0.5 * (bottom - top), abs=0.3)


def test_names_are_escaped_in_plots() -> None:
    name = '<script>alert("1")</script>'
    plot = line_plot(name, [Line(name, [0, 1], [0, 1], Look(0, 0))], Axis(name), UNIT)
    bars = mosaic_bars(name, {name: {name: 0.5}}, {name: 0})
    for svg in (plot.svg, bars.svg):
        assert "<script" not in svg
        ElementTree.fromstring(svg)


def test_empty_plot_has_no_lines() -> None:
    assert paths(line_plot("t", [], UNIT, UNIT).svg, "line") == []
