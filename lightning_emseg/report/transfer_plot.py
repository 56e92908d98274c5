"""IoU against the number of training iterations, as in Figure 4d of CEM500K's paper."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lightning_emseg.metrics.table import Summary

Curve = Mapping[int, Summary]
"""Mean IoU over seeds by number of iterations."""
# Okabe and Ito's palette, told apart by colour-blind readers; markers tell lines apart in print.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#D55E00", "#009E73", "#0072B2", "#CC79A7")
_MARKERS = "os^Dv<>"
_BASE = 10_000
"""Iterations after which the paper takes an IoU for 100 %."""


def iterations_figure(panels: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """A column of two panels for each benchmark: IoU, and IoU as a share of that after 10,000 iterations.

    Source: Conrad and Narayan (2021), Figure 4d, which shows both for the mean over benchmarks. Lines are means over
    seeds, bars their standard errors; those of shares are the standard errors of the IoU in the same unit, as if the
    mean that is 100 % were known. Of training that was never as long, that is the mean after the most iterations.

    Args:
        panels: By benchmark, then by initialisation: at least one point each. An initialisation has one colour
            everywhere.

    Raises:
        ValueError: without benchmarks.
    """
    if not panels:
        raise ValueError("there are no benchmarks to plot")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    width = max(6.4, 3.6 * len(panels))
    figure = Figure(figsize=(width, 6.4), dpi=150, layout="constrained")
    axes = figure.subplots(2, len(panels), sharex="col", squeeze=False)
    for column, (benchmark, curves) in enumerate(panels.items()):
        steps = sorted({step for curve in curves.values() for step in curve})
        for name, curve in curves.items():
            _draw(axes[0, column], axes[1, column], curve, names.index(name), name)
        axes[0, column].set_title(benchmark)
        axes[1, column].set_xlabel("training iterations")
        _iterations_axis(axes[1, column], steps)
        for each in axes[:, column]:
            each.grid(alpha=0.3)
            each.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("IoU (mean ± SE over seeds)")
    axes[1, 0].set_ylabel("share of the IoU after 10,000\niterations, or the most below (%)")
    shown = {name: line for each in axes[0] for line, name in zip(*each.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(shown), int(width // 2.4)))
    figure.legend(list(shown.values()), list(shown), loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw(absolute: Axes, share: Axes, curve: Curve, index: int, name: str) -> None:
    steps = sorted(curve)
    means = np.array([curve[step].mean for step in steps])
    errors = np.array([curve[step].se or 0.0 for step in steps])
    colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    _points(absolute, steps, means, errors, colour, marker, name)
    base = curve[max((step for step in steps if step <= _BASE), default=steps[-1])].mean
    if base > 0 and len(steps) > 1:
        _points(share, steps, 100 * means / base, 100 * errors / base, colour, marker, name)


def _points(
    axes: Axes,
    steps: Sequence[int],
    means: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    errors: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    colour: str,
    marker: str,
    name: str,
) -> None:
    axes.errorbar(steps, means, errors, color=colour, marker=marker, markersize=5, linewidth=1.5, capsize=3, label=name)


def _iterations_axis(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_apart(steps)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(steps: Sequence[int]) -> list[int]:
    """Those whose labels do not overlap on a logarithmic axis, the most iterations among them."""
    closest = (steps[-1] / steps[0]) ** 0.2
    chosen: list[int] = []
    for step in reversed(steps):
        if not chosen or closest * step <= chosen[-1]:
            chosen.append(step)
    return chosen[::-1]
