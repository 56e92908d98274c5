"""Image definition against pixel size, one panel a criterion."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from lightning_emseg.metrics.definition import Definition
from lightning_emseg.metrics.table import summarise

Curve = Sequence[tuple[float, Definition]]
Values = NDArray[np.float64]

# Okabe and Ito's sky blue and vermilion, told apart by colour-blind readers.
_MOSAIC = (86 / 255, 180 / 255, 233 / 255)
_MEAN = (213 / 255, 94 / 255, 0)
_TITLES = {"brenner": "Brenner", "smd2": "SMD2", "variance": "Variance", "vollath": "Vollath"}
_CLOSEST = 1.15
"""Ratio of pixel sizes below which the labels of two levels would overlap."""


def quality_figure(curves: Mapping[str, Curve]) -> Figure:
    """Criteria per pixel (grey levels squared) over nm per pixel: a thin line a mosaic, their mean ± SE thick.

    Args:
        curves: For each mosaic the pixel size in nm along X (above 0) and the criteria per pixel of every level; levels
            in one order for all mosaics. Where sizes differ between mosaics, the mean stands at the mean size.

    Returns:
        Four panels, 9 × 7 inches.

    Raises:
        ValueError: if there are no mosaics, or they differ in their number of levels.
    """
    if not curves:
        raise ValueError("there are no mosaics to plot")
    levels = list(zip(*curves.values(), strict=True))
    sizes = np.array([[size for size, _ in level] for level in levels])
    # Levels may come in any order, lines run from small pixels to large ones.
    order = np.argsort(sizes.mean(axis=1))
    figure = Figure(figsize=(9, 7), dpi=150, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, field in zip(panels.flat, fields(Definition), strict=True):
        values = np.array([[getattr(definition, field.name) for _, definition in level] for level in levels])
        _draw(axes, sizes[order], values[order])
        axes.set_title(_TITLES[field.name])
    for axes in panels[1]:
        axes.set_xlabel("nm per pixel")
    for axes in panels[:, 0]:
        axes.set_ylabel("grey levels² per pixel")
    lines, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(axes: Axes, sizes: Values, values: Values) -> None:
    """One panel; ``sizes`` and ``values`` are ``(levels, mosaics)``."""
    count = values.shape[1]
    for index in range(count):
        label = "a mosaic" if index == 0 else None
        axes.plot(sizes[:, index], values[:, index], color=_MOSAIC, linewidth=1, marker=".", markersize=4, label=label)
    centres = sizes.mean(axis=1)
    if count > 1:
        summaries = [summarise(level) for level in values.tolist()]
        means, errors = [each.mean for each in summaries], [each.se or 0.0 for each in summaries]
        label = f"mean ± SE of {count} mosaics"
        axes.errorbar(
            centres, means, errors, color=_MEAN, linewidth=2.5, elinewidth=1.5, capsize=4, label=label, zorder=3
        )
    axes.set_xscale("log")
    labelled = _apart(centres)
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{size:.3g}" for size in labelled]))
    axes.xaxis.set_minor_locator(NullLocator())
    # From 0, so that heights can be compared; Vollath's covariance may lie below.
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if np.nanmin(values) < 0 else 0.0)
    axes.grid(alpha=0.3)


def _apart(sizes: Values) -> list[float]:
    chosen: list[float] = []
    for size in sizes.tolist():
        if not chosen or size >= _CLOSEST * chosen[-1]:
            chosen.append(size)
    return chosen
