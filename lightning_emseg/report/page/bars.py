"""Bars of every mosaic as inline SVG, one a run."""

import math
from collections.abc import Iterable, Iterator, Mapping

from markupsafe import Markup

from lightning_emseg.report.page.axis import Axis
from lightning_emseg.report.page.plot import STYLES, WIDTH, Plot
from lightning_emseg.report.page.wording import figure

_BAR, _GAP, _LEFT, _RIGHT = 15, 8, 96, 60
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
    zero, room = scale.share(0), WIDTH - _LEFT - _RIGHT
    top, parts = float(_GAP), []
    for key in mosaics:
        found = {name: values[key] for name, values in runs.items() if key in values}
        short = key if len(key) <= _LONGEST else f"…{key[1 - _LONGEST :]}"
        name = Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}<title>{}</title></text>')
        parts.append(name.format(_LEFT - 6, top + _BAR * len(found) / 2 + 4, short, key))
        for run, value in found.items():
            end = scale.share(value) if math.isfinite(value) else zero
            span = (_LEFT + room * min(zero, end), _LEFT + room * max(zero, end))
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
