"""Curves of S_k against k, and panels of windows of images and volumes."""

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t as student

from data_modules.batch import IGNORE
from lightning_emseg.attribution.areas import AREA, THRESHOLDS, Extent, Values
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.table import FieldRow, normalise_inside
from lightning_emseg.attribution.windows import SECTION_AXES, Window
from lightning_emseg.core.figures import LINE_STYLES, hex_colour
from lightning_emseg.core.pictures import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, Picture

OUTCOME_COLOURS = {
    "TP": hex_colour(TRUE_POSITIVE),
    "FP": hex_colour(FALSE_POSITIVE),
    "FN": hex_colour(FALSE_NEGATIVE),
    "TN": hex_colour((50, 80, 120)),
}
EVIDENCE = FuncNorm(
    (lambda value: np.sign(value) * np.abs(value) ** 0.5, lambda place: np.sign(place) * place**2), vmin=-1, vmax=1
)
"""Colours follow sign(w)·√|w|: most evidence lies far below 0.1 and would be white on a linear scale."""
# Those of the palette that stand for no outcome; with three styles they make twelve different lines.
_OTHERS = tuple(map(hex_colour, ("blue", "red", "light blue", "black")))
_MEANING = {"TP": "correct", "FP": "false positive", "FN": "missed", "TN": "background"}
_TICKS = (1.0, 0.5, 0.2, 0.05, 0.0, -0.05, -0.2, -0.5, -1.0)
_LARGEST = 768
"""Side in px above which fields are reduced for display."""
_CELL_INCHES = 4.0


CurveValues = NDArray[np.float64]
MARKED = (0.01, 0.05, 0.1)
"""Thresholds with a dotted line; U-RISC's authors quote S_k at 0.01."""


@dataclass(frozen=True)
class AreaSeries:
    """Areas of the attribution fields of one kind of pixels.

    Attributes:
        name: Entry of the legend: an outcome (``TP``, ``FP``, ``FN``, ``TN``), a data set, a network.
        sizes: S_k in nm², of volumes in nm³, ``float (n, K)``: a row a pixel, a column a threshold.
        window: Area or volume of the window that was attributed, in the same unit.
        nm_per_px: Effective size of the attributed pixels along Y and X, in nm.
    """

    name: str
    sizes: CurveValues
    window: float
    nm_per_px: float


def mean_and_band(values: CurveValues) -> tuple[CurveValues, CurveValues]:
    """Compute the mean over pixels and half the width of its 95 % confidence interval (Student's t, n − 1 degrees).

    The interval takes pixels as independent; pixels of one mosaic are not quite that.

    Args:
        values: Values ``float (n, K)``, n at least 1.

    Returns:
        Two arrays ``(K,)``; the second is NaN for a single pixel.
    """
    count = len(values)
    mean = values.mean(axis=0)
    if count == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, student.ppf(0.975, count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)


def area_figure(thresholds: Sequence[float], series: Sequence[AreaSeries], extent: Extent = AREA) -> Figure:
    """Draw S_k against k: in nm² or nm³ on a logarithmic axis, and beside it as a share of the window in %.

    Lines are means over pixels, bands their 95 % confidence intervals, see :func:`mean_and_band`; a series of one
    pixel has no band. S_k is defined in the U-RISC preprint (2021), section on attribution.

    Args:
        thresholds: K values of k, at least two, rising, above 0.
        series: One line each.
        extent: Extent of all series.

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
    for one, style in zip(series, itertools.cycle(LINE_STYLES)):
        colour = OUTCOME_COLOURS.get(one.name) or next(others)
        label = f"{one.name} (n = {len(one.sizes):,}, {one.nm_per_px:g} nm/px)"
        for axes, values in ((left, one.sizes), (right, 100 * one.sizes / one.window)):
            mean, half = mean_and_band(values)
            # Zero has no place on a logarithmic axis, and a drop to its lower end would look like a value.
            axes.plot(k, np.where(mean > 0, mean, np.nan), color=colour, linestyle=style, label=label)
            if len(values) > 1:
                axes.fill_between(k, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
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
    """Render a figure as RGB ``uint8 (Y, X, 3)``, for PNG files and loggers."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def window_figure(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[FieldRow, Field]],
    thresholds: Sequence[float],
    reach: int | Sequence[int] | None,
) -> Figure:
    """Draw a window, without what lies outside of its mosaic, as in Figure 8 of the U-RISC preprint (2021).

    The first row of an image shows image, probability and truth with the numbered pixels, below them are the fields,
    four in a row. A volume has a row a pixel: its section of image, probability and truth, its field in that section,
    and the field's value of largest magnitude along Z. That is not what
    :data:`~lightning_emseg.attribution.areas.SHADOW` counts, as evidence for the foreground hides behind stronger
    evidence against it.

    Args:
        window: Window of an image or volume.
        probability: ``uint8`` of the window's shape, 255 for certain foreground.
        shown: Pixels of this window: what was measured of them, and their fields.
        thresholds: Thresholds that the sizes of the rows are of.
        reach: Distance from the pixel at which fields were cut off, in px, one for all axes or one an axis; ``None``
            where they were not. Fields are zoomed to it.
    """
    greys = {
        "image": window.image[0][window.inside],
        "probability": probability[window.inside],
        "truth": np.where(window.truth == IGNORE, 90, 255 * (window.truth == 1))[window.inside],
    }
    sides, zoom = window.shape_inside[-SECTION_AXES:], _zoom_side(window, reach)
    volume = len(window.shape_inside) > SECTION_AXES
    columns = 5 if volume else 4
    rows = 1 + (len(shown) if volume else math.ceil(len(shown) / columns))
    size = (columns * _CELL_INCHES, rows * (_CELL_INCHES * min(max(sides[0] / sides[1], 0.6), 2.0) + 0.7))
    figure = Figure(size, dpi=100, layout="constrained")
    cells = iter(figure.subplots(rows, columns, squeeze=False).flat)
    nm = window.pixel_size_nm[-1]
    if not volume:
        for title, grey in greys.items():
            _draw_grey(next(cells), grey, title, shown, zoom, nm)
        _draw_key(next(cells), shown)
    for number, (row, field) in enumerate(shown, 1):
        values, title = _values_inside(window, field), f"{number}  {_describe(row, field, thresholds)}"
        if not volume:
            _draw_field(next(cells), values, title, row.outcome, field.pixel, zoom, nm)
            continue
        z, *pixel = field.pixel
        for name, grey in greys.items():
            _draw_grey(next(cells), grey[z], f"{number}  {name}, z {z}", shown[number - 1 : number], zoom, nm, number)
        _draw_field(next(cells), values[z], title, row.outcome, pixel, zoom, nm)
        title = f"{number}  largest magnitude along Z"
        _draw_field(next(cells), project_field(values), title, row.outcome, pixel, zoom, nm)
    if volume:
        _draw_key(next(cells), shown)
    for cell in cells:
        cell.set_axis_off()
    return figure


def _zoom_side(window: Window, reach: int | Sequence[int] | None) -> int | None:
    """Find the side of the box that fields reach over; ``None`` where it is unknown or no enlargement."""
    if reach is None:
        return None
    side = 2 * (reach if isinstance(reach, int) else max(reach[-SECTION_AXES:])) + 1
    # Boxes nearly as large as the window would hide it and enlarge nothing.
    return side if 1.5 * side < min(window.shape_inside[-SECTION_AXES:]) else None


def _values_inside(window: Window, field: Field) -> Values:
    """Normalise a field and place it in the part of its window that lies inside the mosaic."""
    values = np.zeros(window.shape_inside, np.float32)
    part = normalise_inside(field, window.inside)
    values[tuple(slice(first, first + n) for first, n in zip(field.origin, part.shape, strict=True))] = part
    return values


def _describe(row: FieldRow, field: Field, thresholds: Sequence[float]) -> str:
    """Describe outcome and place of a pixel, its S_k at the smallest threshold of the tables, and the answers."""
    k = THRESHOLDS[0]
    number = list(thresholds).index(k)
    at = ", ".join(f"{axis} {position}" for axis, position in zip("zyx"[-len(field.pixel) :], field.pixel, strict=True))
    sizes = [f"S{each.extent.suffix}({k:g}) = {each.nm(number):,.0f} {each.extent.sign}" for each in row.sizes]
    answers = f"F(x) = {row.output:.2f}, F(x') = {row.baseline_output:.2f}"
    return f"{row.outcome}  at {at}\n{', '.join(sizes)}\n{answers}"


def project_field(values: Values) -> Values:
    """Keep the value of largest magnitude along Z, with its sign: ``(Z, Y, X)`` to ``(Y, X)``."""
    strongest = np.abs(values).argmax(axis=0)[None]
    found: Values = np.take_along_axis(values, strongest, axis=0)[0]
    return found


def reduce_field(values: Values, step: int) -> Values:
    """Keep the value of largest magnitude in every block of ``step`` × ``step`` px, so that sparse evidence stays."""
    height, width = values.shape
    padded = np.pad(values, ((0, -height % step), (0, -width % step)))
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step).swapaxes(1, 2)
    return project_field(np.moveaxis(blocks.reshape(*blocks.shape[:2], -1), -1, 0))


def nice_length(limit: float) -> float:
    """Find the largest of 1, 2 and 5 × 10ⁿ that is at most ``limit``, which is above 0.

    >>> nice_length(49.0)
    20.0
    """
    power = 10.0 ** math.floor(math.log10(limit))
    return max((factor * power for factor in (1, 2, 5) if factor * power <= limit), default=power)


def _box_around(pixel: Sequence[int], shape: Sequence[int], zoom: int | None) -> tuple[int, int, int, int]:
    """Find top, left, height and width of a box of ``zoom`` px around a pixel, inside the window, or the window."""
    height, width = (min(zoom or side, side) for side in shape)
    top, left = (min(max(at - n // 2, 0), side - n) for at, n, side in zip(pixel, (height, width), shape, strict=True))
    return top, left, height, width


def _draw_grey(
    axes: Axes,
    grey: NDArray[np.generic],
    title: str,
    shown: Sequence[tuple[FieldRow, Field]],
    zoom: int | None,
    nm: float,
    first: int = 1,
) -> None:
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255)
    for number, (row, field) in enumerate(shown, first):
        y, x = pixel = field.pixel[-SECTION_AXES:]
        colour = OUTCOME_COLOURS[row.outcome]
        if zoom is not None:
            top, left, height, width = _box_around(pixel, grey.shape, zoom)
            axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=colour, linewidth=2))
        _mark(axes, y, x, colour)
        rim = [withStroke(linewidth=3, foreground=colour)]
        axes.annotate(
            str(number), (x, y), (6, 6), textcoords="offset points", color="white", path_effects=rim, zorder=4
        )
    _finish(axes, title, "black", 1, nm, grey.shape[1])


def _draw_field(
    axes: Axes, values: Values, title: str, outcome: str, pixel: Sequence[int], zoom: int | None, nm: float
) -> None:
    """Draw the part of a field around its pixel, with a ring around the pixel."""
    top, left, height, width = _box_around(pixel, values.shape, zoom)
    part = values[top : top + height, left : left + width]
    step = math.ceil(max(part.shape) / _LARGEST)
    reduced = reduce_field(part, step)
    bottom, right = (start + step * count - 0.5 for start, count in zip((top, left), reduced.shape, strict=True))
    corners = (left - 0.5, right, bottom, top - 0.5)
    axes.imshow(reduced, cmap="RdBu", norm=EVIDENCE, interpolation="nearest", extent=corners)
    _mark(axes, pixel[0], pixel[1], "black")
    _finish(axes, title, OUTCOME_COLOURS[outcome], 3, nm, width)


def _mark(axes: Axes, y: int, x: int, colour: str) -> None:
    # A ring: the pixel itself, often the strongest evidence, has to stay visible.
    rim = [withStroke(linewidth=4, foreground="white")]
    axes.plot(x, y, "o", markersize=10, markeredgewidth=2, fillstyle="none", color=colour, path_effects=rim)


def _finish(axes: Axes, title: str, colour: str, frame: int, nm: float, width: int) -> None:
    """Add title, frame in a colour, and a scale bar of at most 30 % of the width."""
    length = nice_length(0.3 * width * nm)
    text = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    bar = AnchoredSizeBar(axes.transData, length / nm, text, "lower left", pad=0.3, borderpad=0.3, sep=2)
    axes.add_artist(bar)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=colour, linewidth=frame)


def _draw_key(axes: Axes, shown: Sequence[tuple[FieldRow, Field]]) -> None:
    """Draw a colour bar, and the meaning of the colours of outcomes."""
    axes.set_axis_off()
    bar = axes.inset_axes((0.05, 0.05, 0.08, 0.9))
    scale = ScalarMappable(EVIDENCE, "RdBu")
    axes.figure.colorbar(scale, cax=bar, ticks=_TICKS, format="{x:g}", label="evidence against        evidence for")
    present = [name for name in OUTCOME_COLOURS if name in {row.outcome for row, _ in shown}]
    handles = [Patch(color=OUTCOME_COLOURS[name], label=f"{name}  {_MEANING[name]}") for name in present]
    axes.legend(handles=handles, loc="upper right", frameon=False, title="colour: sign(w)·√|w|")
