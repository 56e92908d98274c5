"""Line plots as inline SVG, readable at the width of a phone and without colours."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lightning_emseg.report.page.axis import Axis, Scale, tick_text

WIDTH, HEIGHT = 360, 240
"""In px of a phone; wider screens enlarge."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 10, 42
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2")
_MARKERS = (
    "M-3.5 0A3.5 3.5 0 1 0 3.5 0A3.5 3.5 0 1 0-3.5 0Z",
    "M-3-3H3V3H-3Z",
    "M0-4L4 3H-4Z",
    "M0-4.5L4 0L0 4.5L-4 0Z",
    "M-4-3H4L0 4Z",
    "M-3.5-1.2H-1.2V-3.5H1.2V-1.2H3.5V1.2H1.2V3.5H-1.2V1.2H-3.5Z",
)
STYLES = len(_MARKERS)
_MOST_MARKERS = 12


@dataclass(frozen=True)
class Look:
    """How a line is told from others: by colour and marker, and by dash.

    Attributes:
        colour: Number of a colour and marker; they repeat after ``STYLES``.
        dash: Number of a dash pattern.
        hollow: Whether markers are empty.
    """

    colour: int
    dash: int
    hollow: bool = False


def look(number: int) -> Look:
    """Of one line among many, the first of which is 0; 36 of them differ."""
    return Look(number, number + number // STYLES)


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: For the legend.
        x: Rising.
        y: Of the same length; what is not finite leaves a gap.
        look: Different for each line.
        errors: Half heights of error bars of the same length, or empty.
        marked: Places of the values that are marked; ``None`` for all, of long lines some.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: Look
    errors: Sequence[float] = ()
    marked: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Plot:
    """A plot for a page.

    Attributes:
        title: What it shows.
        svg: Without its legend.
        legend: Sample of a line, and its name.
    """

    title: str
    svg: Markup
    legend: tuple[tuple[Markup, str], ...]


def line_plot(title: str, lines: Sequence[Line], x: Axis, y: Axis) -> Plot:
    """Draw lines; those without a value that has a place on the axes are left out.

    Args:
        title: Also for those who hear the page.
        lines: At most as many as there are looks.
        x: Horizontal axis.
        y: Vertical axis; error bars may reach beyond its end.
    """
    shown = [line for line in lines if any(x.has(a) and y.has(b) for a, b in zip(line.x, line.y, strict=True))]
    across = x.fit(value for line in shown for value in line.x)
    up = y.fit(value for line in shown for value in line.y)
    inside = [_drawn(line, x, y, across, up) for line in shown]
    described = f"{title}: {y.label} against {x.label}; {', '.join(line.name for line in shown)}"
    svg = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, described, _frame(x, y, across, up), Markup("").join(inside)
    )
    return Plot(title, svg, tuple((_sample(line), line.name) for line in shown))


def _place(across: Scale, up: Scale, x: float, y: float) -> tuple[float, float]:
    left = _LEFT + across.share(x) * (WIDTH - _LEFT - _RIGHT)
    return left, HEIGHT - _BOTTOM - up.share(y) * (HEIGHT - _TOP - _BOTTOM)


def _frame(x: Axis, y: Axis, across: Scale, up: Scale) -> Markup:
    parts = []
    for tick in up.ticks:
        left, top = _place(across, up, across.low, tick)
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(_LEFT, top, WIDTH - _RIGHT))
        parts.append(_text(left - 5, top + 4, tick_text(tick), "end"))
    for tick in across.ticks:
        left, top = _place(across, up, tick, up.low)
        parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}v4"/>').format(left, top))
        parts.append(_text(left, top + 16, tick_text(tick), "middle"))
    bottom = HEIGHT - _BOTTOM
    parts.append(Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(_LEFT, _TOP, bottom, WIDTH - _RIGHT))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, x.label, "middle"))
    turned = Markup('<text transform="translate(11 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(turned.format((_TOP + bottom) / 2, y.label))
    return Markup("").join(parts)


def _text(left: float, top: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(left, top, anchor, text)


def _drawn(line: Line, x: Axis, y: Axis, across: Scale, up: Scale) -> Markup:
    path, pen_up, places = "", True, []
    for number, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
        if not (x.has(a) and y.has(b)):
            pen_up = True
            continue
        left, top = _place(across, up, a, b)
        path += f"{'M' if pen_up else 'L'}{left:.1f} {top:.1f}"
        pen_up = False
        places.append((number, left, top))
    bars = "".join(_error_bars(line, places, up))
    return Markup('<g class="c{}"><title>{}</title><path class="line" stroke-dasharray="{}" d="{}"/>{}{}</g>').format(
        line.look.colour % STYLES,
        line.name,
        _DASHES[line.look.dash % len(_DASHES)],
        path,
        Markup('<path class="bar" d="{}"/>').format(bars) if bars else "",
        Markup("").join(_dots(line, places)),
    )


def _error_bars(line: Line, places: Sequence[tuple[int, float, float]], up: Scale) -> Iterator[str]:
    height = HEIGHT - _TOP - _BOTTOM
    for number, left, top in places if line.errors else ():
        if math.isfinite(line.errors[number]) and not up.log:
            half = line.errors[number] / (up.high - up.low) * height
            yield f"M{left:.1f} {max(_TOP, top - half):.1f}V{min(HEIGHT - _BOTTOM, top + half):.1f}"


def _dots(line: Line, places: Sequence[tuple[int, float, float]]) -> Iterator[Markup]:
    every = max(1, math.ceil(len(places) / _MOST_MARKERS))
    some = places[::every] if line.marked is None else [place for place in places if place[0] in line.marked]
    for number, left, top in some:
        marker = _marker(line.look, line.y[number])
        yield Markup('<g transform="translate({:.1f} {:.1f})">{}</g>').format(left, top, marker)


def _marker(look: Look, value: float | None = None) -> Markup:
    told = "" if value is None else Markup("<title>{:.4g}</title>").format(value)
    style = "hollow" if look.hollow else "dot"
    return Markup('<path class="{}" d="{}">{}</path>').format(style, _MARKERS[look.colour % STYLES], told)


def _sample(line: Line) -> Markup:
    dash = _DASHES[line.look.dash % len(_DASHES)]
    drawn = Markup('<path class="line" stroke-dasharray="{}" d="M0 6H34"/>').format(dash)
    dot = Markup('<g transform="translate(17 6)">{}</g>').format(_marker(line.look)) if line.marked != () else ""
    return Markup('<svg class="sample c{}" viewBox="0 0 34 12" aria-hidden="true">{}{}</svg>').format(
        line.look.colour % STYLES, drawn, dot
    )
