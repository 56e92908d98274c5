"""Line charts and bars as inline SVG, in the colours of the page."""

import io
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lightning_emseg.results.page.tables import format_value

_MARKERS, _DASHES = "os^DvP", ("-", (0, (5, 2)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (9, 3)), (0, (3, 1.5)))
STYLES = len(_MARKERS)
"""Number of colours, which the style sheet calls ``--c0``, ``--c1``, …"""
_COLOURS = [f"#00000{number + 1}" for number in range(STYLES)]
_TEXT, _RULE, _BACK = "#000000", "#00000a", "#00000b"
_VARIABLES = {_TEXT: "text", _RULE: "rule", _BACK: "back", **{each: f"c{n}" for n, each in enumerate(_COLOURS)}}
"""Names in the style sheet by the colour that stands for them in a figure."""
_WIDTH, _HEIGHT, _LINE = 4.7, 2.8, 0.2
"""Of a chart and of a line of its legend, in inches of 72 px."""
_MOST_MARKERS = 12
_LONGEST_NAME, _LONGEST_MOSAIC = 46, 14
"""Letters after which a name in a legend is broken, and the last ones of a mosaic's name that are shown."""
_SVG = "http://www.w3.org/2000/svg"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
# Names of runs are text, whatever they contain; it stays text in the SVG.
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "grid.color": _RULE,
    "axes.grid": True,
}

Chart = tuple[str, Markup]
"""Title and SVG."""


@dataclass(frozen=True)
class ChartLine:
    """A line of a chart.

    Attributes:
        name: Name in the legend.
        x: Rising values.
        y: Values of the same length; a gap where one is not finite.
        colour: Number of a colour and marker; both repeat after ``STYLES``.
        dash: Number of a dash pattern; by default one with which 36 lines differ.
        is_hollow: Whether markers are empty.
        errors: Half heights of error bars of the same length, or empty.
        marked: Indices of the values with a marker; about twelve of them by default.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    dash: int | None = None
    is_hollow: bool = False
    errors: Sequence[float] = ()
    marked: Sequence[int] | None = None


def line_chart(
    title: str, lines: Sequence[ChartLine], x: str, y: str, *, is_log: bool = False, is_unit: bool = False
) -> Chart:
    """Draw lines; those without a value that has a place on the axes are left out.

    Args:
        title: Title, also for those who hear the page.
        lines: Lines, of which 36 differ in colour, marker and dash.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        is_log: Whether both axes are logarithmic; values up to 0 then have no place.
        is_unit: Whether both axes reach from 0 to 1.
    """
    least = 0.0 if is_log else -math.inf
    shown = [
        line for line in lines if any(a > least and least < b < math.inf for a, b in zip(line.x, line.y, strict=True))
    ]
    with _axes(_HEIGHT) as axes:
        axes.set(xlabel=x, ylabel=y)
        if is_log:
            for scaled in (axes.set_xscale, axes.set_yscale):
                scaled("log", nonpositive="mask")
        if is_unit:
            axes.set(xlim=(0, 1), ylim=(0, 1))
        elif not is_log and all(float(each).is_integer() for line in shown for each in line.x):
            axes.locator_params(axis="x", integer=True)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
        _legend(axes, [(_draw(axes, line), line.name) for line in shown])
        return title, _inline(axes, f"{title}: {y} against {x}; {', '.join(line.name for line in shown)}")


def mosaic_bars(title: str, runs: Mapping[str, Mapping[str, float]], numbers: Mapping[str, int]) -> Chart:
    """Draw a bar for each mosaic and run, from 0, with its value beside it and the number of its run in it.

    Args:
        title: Quantity that the bars show.
        runs: Values by mosaic, by name of run; NaN leaves a dash, and a mosaic that a run does not have nothing.
        numbers: Number of each run from 0, which is its colour on the whole page.
    """
    mosaics = list(dict.fromkeys(key for values in runs.values() for key in values))
    bars: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    ticks, top = {}, 0.0
    for key in mosaics:
        mine = [name for name, values in runs.items() if key in values]
        ticks[top + (len(mine) - 1) / 2] = key if len(key) <= _LONGEST_MOSAIC else f"…{key[1 - _LONGEST_MOSAIC :]}"
        for name in mine:
            bars[name].append((top, runs[name][key]))
            top += 1
        top += 0.5
    with _axes(0.22 * top + 0.2) as axes:
        axes.set(xticks=[], ylim=(top - 0.75, -0.75))
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        handles = []
        for name, found in bars.items():
            colour = _COLOURS[numbers[name] % STYLES]
            widths = [value if math.isfinite(value) else 0 for _, value in found]
            drawn = axes.barh([place for place, _ in found], widths, 0.85, color=colour)
            axes.bar_label(drawn, [format_value(value) for _, value in found], padding=3)
            if len(runs) > 1:
                axes.bar_label(drawn, [f"{numbers[name] + 1}"] * len(found), label_type="center", color=_BACK)
            handles.append((drawn, name if len(numbers) == 1 else f"{numbers[name] + 1}: {name}"))
        _legend(axes, handles)
        return title, _inline(axes, f"{title} of each mosaic; the table of scores has the same numbers")


def tick_text(value: float) -> str:
    """A short label.

    >>> tick_text(0.2), tick_text(20000), tick_text(1e-4)
    ('0.2', '20k', '1e-4')
    """
    if value and abs(value) < 1e-3:
        return re.sub(r"e-0*", "e-", f"{value:.3g}" if "e" in f"{value:.3g}" else f"{value:.0e}")
    for limit, factor, letter in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


@contextmanager
def _axes(height: float) -> Iterator[Axes]:
    with mpl.rc_context(_STYLE):
        axes = Figure(figsize=(_WIDTH, height), layout="constrained").add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        yield axes


def _draw(axes: Axes, line: ChartLine) -> Any:
    colour = _COLOURS[line.colour % STYLES]
    dash = line.colour + line.colour // STYLES if line.dash is None else line.dash
    every = max(1, math.ceil(len(line.x) / _MOST_MARKERS))
    return axes.errorbar(
        line.x,
        line.y,
        line.errors or None,
        color=colour,
        linestyle=_DASHES[dash % len(_DASHES)],
        marker=_MARKERS[line.colour % STYLES],
        markersize=5,
        markerfacecolor=_BACK if line.is_hollow else colour,
        markevery=every if line.marked is None else list(line.marked),
        elinewidth=1.2,
    )


def _legend(axes: Axes, entries: Sequence[tuple[Any, str]]) -> None:
    names = [textwrap.fill(name, _LONGEST_NAME) for _, name in entries]
    chart = axes.get_figure()
    assert isinstance(chart, Figure)
    chart.set_figheight(chart.get_figheight() + _LINE * sum(name.count("\n") + 1 for name in names))
    handles = [handle for handle, _ in entries]
    # Names are set afterwards, because matplotlib leaves out those that begin with an underscore.
    legend = chart.legend(handles, ["name"] * len(names), loc="outside lower left", frameon=False, handlelength=4)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _inline(axes: Axes, described: str) -> Markup:
    """SVG without what a page has once, its colours named as in the style sheet."""
    file, chart = io.StringIO(), axes.get_figure()
    assert isinstance(chart, Figure)
    chart.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())
    for each in list(root):
        if each.tag == f"{{{_SVG}}}metadata" or each.find(f"{{{_SVG}}}style") is not None:
            root.remove(each)
    for each in root.iter():
        if each.tag == f"{{{_SVG}}}g":
            each.attrib.pop("id", None)
        if style := each.get("style"):
            style = re.sub(r"font-family: [^;]*(; )?", "", style)
            each.set("style", re.sub("#00000[0-9a-f]", lambda found: f"var(--{_VARIABLES[found[0]]})", style))
    root.attrib = {"class": "plot", "viewBox": root.attrib["viewBox"], "role": "img", "aria-label": described}
    return Markup(ElementTree.tostring(root, encoding="unicode"))
