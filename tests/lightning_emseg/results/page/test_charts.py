"""Line charts and bars."""

import math
import re
from xml.etree import ElementTree

import pytest

from lightning_emseg.results.page.charts import ChartLine, line_chart, mosaic_bars

_USE, _PATH, _TEXT = ("{http://www.w3.org/2000/svg}" + name for name in ("use", "path", "text"))


def elements(svg: str, tag: str, colour: str = "") -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter(tag) if f"var(--{colour}" in each.get("style", "")]


def places(svg: str, colour: str) -> list[tuple[float, float]]:
    """Markers in a colour, without the one of the legend, which comes last."""
    return [(float(each.attrib["x"]), float(each.attrib["y"])) for each in elements(svg, _USE, colour)][:-1]


def widths(svg: str, colour: str) -> list[float]:
    """Widths of bars in a colour, without the one of the legend, which comes last."""
    shapes = [re.findall(r"[ML] ([-\d.]+) ", each.attrib["d"]) for each in elements(svg, _PATH, colour)]
    return [max(map(float, shape)) - min(map(float, shape)) for shape in shapes][:-1]


def words(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(_TEXT)]


def test_points_lie_at_their_values() -> None:
    _, svg = line_chart("t", [ChartLine("a", [0, 0.5, 1], [0, 0.25, 1], 0)], "x", "y", is_unit=True)
    (left, bottom), middle, (right, top) = places(svg, "c0")
    assert middle == pytest.approx(((left + right) / 2, bottom + 0.25 * (top - bottom)), abs=0.1)
    assert left < right
    assert top < bottom


def test_steps_have_whole_ticks() -> None:
    _, svg = line_chart("t", [ChartLine("a", [3, 6], [10, 20], 0)], "x", "y")
    assert {"3", "4", "5", "6"} <= set(words(svg))
    assert "3.5" not in words(svg)


def test_nan_leaves_a_gap() -> None:
    line = ChartLine("a", [0, 0.25, 0.5, 0.75, 1], [0, 0, math.nan, 1, 1], 0, marked=())
    _, svg = line_chart("t", [line], "x", "y", is_unit=True)
    assert elements(svg, _PATH, "c0")[0].attrib["d"].count("M") == 2


def test_zero_has_no_place_on_a_log_axis() -> None:
    _, svg = line_chart("t", [ChartLine("a", [1, 10, 100], [5, 0, 7], 0)], "x", "y", is_log=True)
    assert len(places(svg, "c0")) == 2


def test_lines_differ_without_colours() -> None:
    lines = [ChartLine(f"line {number}", [0, 1], [0, 1], number) for number in range(36)]
    _, svg = line_chart("t", lines, "x", "y")
    root = ElementTree.fromstring(svg)
    shapes = {each.attrib["id"]: each.attrib["d"] for each in root.iter(_PATH) if "id" in each.attrib}
    dashes, link = [], "{http://www.w3.org/1999/xlink}href"
    for number in range(6):
        drawn = [each.attrib["style"] for each in elements(svg, _PATH, f"c{number}")]
        dashes.append({tuple(re.findall("stroke-dasharray: [^;]*", style)) for style in drawn})
    assert [len(found) for found in dashes] == [6] * 6
    markers = [{shapes[each.attrib[link][1:]] for each in elements(svg, _USE, f"c{n}")} for n in range(6)]
    assert len(set.union(*markers)) == sum(map(len, markers)) == 6


def test_error_bars_have_the_height_of_their_errors() -> None:
    _, svg = line_chart("t", [ChartLine("a", [0, 1], [0.25, 0.75], 0, errors=[0.1, 0.25])], "x", "y", is_unit=True)
    (_, low), (_, high) = places(svg, "c0")
    ends = [re.findall(r"[ML] [-\d.]+ ([-\d.]+)", each.attrib["d"]) for each in elements(svg, _PATH, "c0")]
    heights = sorted(abs(float(first) - float(second)) for first, second in (each for each in ends if len(each) == 2))
    assert any(height == pytest.approx(low - high, abs=0.1) for height in heights)
    assert any(height == pytest.approx(0.4 * (low - high), abs=0.1) for height in heights)


@pytest.mark.parametrize("name", ['<script>alert("1")</script>', "_first", r"$\frac{", "a & b"])
def test_any_name_is_shown_as_text(name: str) -> None:
    _, line = line_chart(name, [ChartLine(name, [0, 1], [0, 1], 0)], name, "y")
    _, bars = mosaic_bars(name, {name: {name: 0.5}}, {name: 0})
    for svg in (line, bars):
        assert "<script" not in svg
        assert name in words(svg)


def test_charts_share_no_ids_and_name_page_colours() -> None:
    charts = [line_chart("t", [ChartLine("a", [0, 1], [0, 1], 0)], "x", "y")[1] for _ in range(2)]
    first, second = (set(re.findall(r'\bid="([^"]*)"', svg)) for svg in charts)
    assert not first & second
    assert "#" not in re.sub(r"url\(#\w+\)|href=\"#\w+\"", "", charts[0])
    assert "var(--text)" in charts[0]


def test_empty_chart_has_no_lines() -> None:
    _, svg = line_chart("t", [ChartLine("a", [1, 2], [math.nan, math.inf], 0)], "x", "y")
    assert elements(svg, _PATH, "c0") == []


def test_bar_lengths_are_proportional_to_values() -> None:
    values = {"one": {"a": 0.8, "b": 0.4}, "two": {"b": 0.2, "a": math.nan}}
    _, svg = mosaic_bars("F1", values, {"one": 0, "two": 1})
    first, second = widths(svg, "c0"), widths(svg, "c1")
    assert [*first[1:], *second] == pytest.approx([first[0] / 2, 0, first[0] / 4], abs=0.01)
    assert {"–", "1: one", "2: two"} <= set(words(svg))


def test_runs_keep_colours_without_other_scores() -> None:
    numbers = {"first": 0, "third": 2, "fourth": 3}
    _, svg = mosaic_bars("F1", {"third": {"a": 0.8}, "fourth": {"b": 0.7}}, numbers)
    assert [len(widths(svg, f"c{number}")) for number in range(4)] == [0, 0, 1, 1]
    assert {"3: third", "4: fourth"} <= set(words(svg))
