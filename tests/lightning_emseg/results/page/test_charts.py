"""Axes of plots."""

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_emseg.results.page.charts import Axis, Line, Look, line_plot, linear_ticks, look, mosaic_bars

finite = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(finite, finite)
def test_linear_ticks_are_few_even_and_within(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assume(high - low > 1e-6 * max(1.0, abs(low), abs(high)))
    ticks = linear_ticks(low, high)
    slack = 1e-6 * (high - low)
    assert 2 <= len(ticks) <= 7
    assert low - slack <= ticks[0] < ticks[-1] <= high + slack
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert max(gaps) - min(gaps) <= 1e-5 * max(gaps)


@given(st.lists(finite, min_size=1))
def test_fitted_linear_axis_holds_every_value(values: list[float]) -> None:
    assume(len(set(values)) == 1 or max(values) - min(values) > 1e-6 * max(map(abs, values)))
    scale = Axis("").fit(values)
    assert all(-1e-6 <= scale.share(value) <= 1 + 1e-6 for value in values)


@given(st.lists(st.floats(1e-9, 1e9), min_size=1))
def test_log_axis_spans_whole_decades(values: list[float]) -> None:
    scale = Axis("", log=True).fit([*values, 0.0, -1.0, math.nan])
    assert all(-1e-6 <= scale.share(value) <= 1 + 1e-6 for value in values)
    assert math.log10(scale.low) % 1 == 0
    assert math.isclose(scale.share(math.sqrt(scale.low * scale.high)), 0.5, abs_tol=1e-9)


def test_given_limits_are_kept() -> None:
    scale = Axis("", limits=(0.0, 1.0)).fit([0.4, 0.6])
    assert (scale.low, scale.high) == (0.0, 1.0)
    assert scale.ticks == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]


def test_empty_axis_still_has_ticks() -> None:
    assert len(Axis("").fit([]).ticks) > 1
    assert len(Axis("", log=True).fit([]).ticks) > 1


def test_bar_lengths_are_proportional_to_values() -> None:
    values = {"one": {"a": 0.8, "b": 0.4}, "two": {"a": math.nan, "b": 0.2}}
    bars = mosaic_bars("F1", values, {"one": 0, "two": 1})
    widths = [float(e.attrib["width"]) for e in ElementTree.fromstring(bars.svg).iter("rect")]
    assert widths[1] == 0
    assert [width / widths[0] for width in (widths[2], widths[3])] == pytest.approx([0.5, 0.25], abs=0.01)
    assert "–" in bars.svg
    assert [name for _, name in bars.legend] == ["1: one", "2: two"]


def test_runs_keep_colours_without_other_scores() -> None:
    bars = mosaic_bars("F1", {"third": {"a": 0.8}, "fourth": {"b": 0.7}}, {"first": 0, "third": 2, "fourth": 3})
    assert re.findall(r'<g class="(c\d)">', bars.svg) == ["c2", "c3"]
    assert [name for _, name in bars.legend] == ["3: third", "4: fourth"]


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
