"""Line plots and bars as inline SVG."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lightning_emseg.results.page.tables import figure


@dataclass(frozen=True)
class Axis:
    """An axis, or a wish for one.

    Attributes:
        label: With its unit.
        log: Whether it is logarithmic; values up to 0 then have no place.
        limits: First and last value; from the data where ``None``.
    """

    label: str
    log: bool = False
    limits: tuple[float, float] | None = None

    def fit(self, values: Iterable[float]) -> "Scale":
        """The scale that shows all values that have a place on it."""
        shown = [value for value in values if self.has(value)]
        low, high = self.limits or (min(shown, default=1.0), max(shown, default=1.0))
        if self.log:
            low, high = 10 ** math.floor(math.log10(low) + 1e-9), 10 ** math.ceil(math.log10(high) - 1e-9)
            return Scale(low, high if high > low else 10 * low, True, log_ticks(low, max(high, 10 * low)))
        if low == high:
            low, high = low - 0.5, high + 0.5
        ticks = linear_ticks(low, high)
        if self.limits is None:
            step = ticks[1] - ticks[0]
            low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
            ticks = linear_ticks(low, high)
        return Scale(low, high, False, ticks)

    def has(self, value: float) -> bool:
        """Whether a value has a place."""
        return math.isfinite(value) and not (self.log and value <= 0)


@dataclass(frozen=True)
class Scale:
    """A fitted axis.

    Attributes:
        low: First value.
        high: Last value.
        log: Whether it is logarithmic.
        ticks: Rising.
    """

    low: float
    high: float
    log: bool
    ticks: Sequence[float]

    def share(self, value: float) -> float:
        """Place of a value: 0 at the axis' beginning, 1 at its end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within two different bounds, at least two and about ``most``.

    >>> linear_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last <= first:
        return [low, high]
    # Twelve digits take away what binary fractions add.
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within two bounds, both of them powers of ten."""
    return [10.0**exponent for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def tick_text(value: float) -> str:
    """A short label.

    >>> tick_text(0.2), tick_text(20000), tick_text(1e-4)
    ('0.2', '20k', '1e-4')
    """
    if value and abs(value) < 1e-3:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


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


_BAR, _GAP, _BARS_LEFT, _BARS_RIGHT = 15, 8, 96, 60
_LONGEST = 14
"""Letters of a mosaic's name that have a place."""


def mosaic_bars(title: str, runs: Mapping[str, Mapping[str, float]], numbers: Mapping[str, int]) -> Plot:
    """Draw a bar a mosaic and run, from 0, with its value beside it and the number of its run in it.

    Args:
        title: What the bars measure.
        runs: Values by mosaic, by name of run; NaN leaves a dash, and a mosaic that a run does not have nothing.
        numbers: By name of run, the first of which is 0; they are its colour on the whole page.
    """
    mosaics = list(dict.fromkeys(key for values in runs.values() for key in values))
    scale = Axis("").fit([0.0, *(value for values in runs.values() for value in values.values())])
    zero, room = scale.share(0), WIDTH - _BARS_LEFT - _BARS_RIGHT
    top, parts = float(_GAP), []
    for key in mosaics:
        found = {name: values[key] for name, values in runs.items() if key in values}
        short = key if len(key) <= _LONGEST else f"…{key[1 - _LONGEST :]}"
        name = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}<title>{}</title></text>')
        parts.append(name.format(_BARS_LEFT - 6, top + _BAR * len(found) / 2 + 4, short, key))
        for run, value in found.items():
            end = scale.share(value) if math.isfinite(value) else zero
            span = (_BARS_LEFT + room * min(zero, end), _BARS_LEFT + room * max(zero, end))
            parts.append(_bar(numbers[run], span, top, value, len(runs) > 1))
            top += _BAR
        top += _GAP
    svg = Markup('<svg class="plot" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, top, f"{title} of each mosaic; the table of scores has the same numbers", Markup("").join(parts)
    )
    return Plot(title, svg, tuple(_legend(runs, numbers)))


def _bar(run: int, span: tuple[float, float], top: float, value: float, numbered: bool) -> Markup:
    shape = '<rect class="filled" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
    text = '<text x="{:.1f}" y="{:.1f}">{}</text>'
    parts = [
        Markup(shape).format(span[0], top + 1, span[1] - span[0], _BAR - 2),
        Markup(text).format(span[1] + 4, top + _BAR - 4, figure(value)),
    ]
    if numbered and span[1] - span[0] > 10:
        inside = Markup('<text class="inside" x="{:.1f}" y="{:.1f}">{}</text>')
        parts.append(inside.format(span[0] + 3, top + _BAR - 4, run + 1))
    return Markup('<g class="c{}">{}</g>').format(run % STYLES, Markup("").join(parts))


def _legend(runs: Iterable[str], numbers: Mapping[str, int]) -> Iterator[tuple[Markup, str]]:
    bar = '<rect class="filled" width="34" height="12"/>'
    sample = f'<svg class="sample c{{}}" viewBox="0 0 34 12" aria-hidden="true">{bar}</svg>'
    for run in runs:
        yield Markup(sample).format(numbers[run] % STYLES), run if len(numbers) == 1 else f"{numbers[run] + 1}: {run}"
