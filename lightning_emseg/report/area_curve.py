"""How large attribution fields are: their area S_k against the threshold k."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t as student

from lightning_emseg.attribution.extent import AREA, Extent
from lightning_emseg.report.attribution_panel import OUTCOME_COLOURS
from lightning_emseg.report.overlay import Picture

Curve = NDArray[np.float64]
MARKED = (0.01, 0.05, 0.1)
"""Thresholds with a dotted line; U-RISC's authors quote S_k at 0.01."""
# Those of the palette that stand for no outcome; with three styles they make twelve different lines.
_OTHERS = ("#0072B2", "#D55E00", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.")


@dataclass(frozen=True)
class AreaSeries:
    """Areas of the attribution fields of one kind of pixels.

    Attributes:
        name: For the legend: an outcome (``TP``, ``FP``, ``FN``, ``TN``), a data set, a network.
        sizes: S_k in nm², of volumes in nm³, ``float (n, K)``: a row a pixel, a column a threshold.
        window: Area or volume of the window that was attributed, likewise.
        nm_per_px: Effective size of the attributed pixels along Y and X, in nm.
    """

    name: str
    sizes: Curve
    window: float
    nm_per_px: float


def mean_and_band(values: Curve) -> tuple[Curve, Curve]:
    """Mean over pixels and half the width of its 95 % confidence interval by Student's t with n − 1 degrees.

    The interval takes pixels as independent; pixels of one mosaic are not quite that.

    Args:
        values: ``float (n, K)``, n at least 1.

    Returns:
        Two arrays ``(K,)``; the second is NaN for a single pixel.
    """
    count = len(values)
    mean = values.mean(axis=0)
    if count == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, student.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)


def area_figure(thresholds: Sequence[float], series: Sequence[AreaSeries], extent: Extent = AREA) -> Figure:
    """S_k against k: in nm² or nm³ on a logarithmic axis, and beside it as a share of the window in %.

    Lines are means over pixels, bands their 95 % confidence intervals, see :func:`mean_and_band`; a series of one
    pixel has no band. S_k is defined in the U-RISC preprint (2021), section on attribution.

    Args:
        thresholds: The K values of k, at least two, rising, above 0.
        series: One line each.
        extent: That all series are of.

    Raises:
        ValueError: if the thresholds are not as said, or the areas of a series are none or not at these thresholds.
    """
    k = np.asarray(thresholds, np.float64)
    if k.size < 2 or k[0] <= 0 or (np.diff(k) <= 0).any():
        raise ValueError(f"two thresholds or more are needed, above 0 and rising, got {list(thresholds)}")
    for one in series:
        if one.sizes.ndim != 2 or not len(one.sizes) or one.sizes.shape[1] != k.size:
            raise ValueError(f"areas of {one.name!r} have shape {one.sizes.shape}, not (pixels, {k.size})")
    figure = Figure(figsize=(9.5, 4.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    others = itertools.cycle(_OTHERS)
    for one, style in zip(series, itertools.cycle(_STYLES)):
        colour = _hex(OUTCOME_COLOURS[one.name]) if one.name in OUTCOME_COLOURS else next(others)
        label = f"{one.name} (n = {len(one.sizes):,}, {one.nm_per_px:g} nm/px)"
        _line(left, k, one.sizes, colour, style, label)
        _line(right, k, 100 * one.sizes / one.window, colour, style, label)
    left.set_yscale("log", nonpositive="clip")
    left.set_ylabel(f"{extent.label} ({extent.sign})")
    right.set_ylim(bottom=0)
    right.set_ylabel(f"{extent.share.replace('of', 'of the')} (%)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlim(k[0], k[-1])
        axes.set_xlabel("threshold k of the normalised attribution")
        axes.spines[["top", "right"]].set_visible(False)
        for mark in MARKED:
            axes.axvline(mark, color="0.5", linestyle=":", linewidth=1, zorder=0)
    if series:
        right.legend(title="mean, 95 % confidence", framealpha=1, edgecolor="none")
    return figure


def figure_picture(figure: Figure) -> Picture:
    """The figure as RGB ``uint8 (Y, X, 3)``, for PNG files (``overlay.save``) and loggers."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def _line(axes: Axes, k: Curve, values: Curve, colour: str, style: str, label: str) -> None:
    mean, half = mean_and_band(values)
    # Zero has no place on a logarithmic axis, and a drop to its lower end would look like a value.
    axes.plot(k, np.where(mean > 0, mean, np.nan), color=colour, linestyle=style, label=label)
    if len(values) > 1:
        axes.fill_between(k, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
