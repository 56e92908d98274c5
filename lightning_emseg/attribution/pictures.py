"""Curves of S_k against k, and panels of windows of images and volumes."""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t as student

from data_modules.batch import IGNORE
from lightning_emseg.attribution.areas import AREA, THRESHOLDS, Extent, Values
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.panels import (
    BLACK,
    OUTCOME_COLOURS,
    FieldValues,
    PanelField,
    attribution_panel,
    colour_key,
    field_picture,
    font_of,
    framed,
    overview,
    sheet,
    whole_view,
    wrapped,
    zoomed,
)
from lightning_emseg.attribution.table import FieldRow, field_inside
from lightning_emseg.attribution.windows import SECTION_AXES, Window
from lightning_emseg.core.pictures import Picture

CurveValues = NDArray[np.float64]
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
    sizes: CurveValues
    window: float
    nm_per_px: float


def mean_and_band(values: CurveValues) -> tuple[CurveValues, CurveValues]:
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


def _line(axes: Axes, k: CurveValues, values: CurveValues, colour: str, style: str, label: str) -> None:
    mean, half = mean_and_band(values)
    # Zero has no place on a logarithmic axis, and a drop to its lower end would look like a value.
    axes.plot(k, np.where(mean > 0, mean, np.nan), color=colour, linestyle=style, label=label)
    if len(values) > 1:
        axes.fill_between(k, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


_COLUMNS = 5


def projected(values: FieldValues) -> FieldValues:
    """The value of largest magnitude along Z, with its sign: ``(Z, Y, X)`` to ``(Y, X)``."""
    strongest = np.abs(values).argmax(axis=0)[None]
    found: FieldValues = np.take_along_axis(values, strongest, axis=0)[0]
    return found


def volume_panel(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[FieldRow, Field, FieldValues]],
    captions: Sequence[str],
    zoom_px: int | None,
) -> Picture:
    """A row a pixel: its section of image, probability and truth, its field in that section, and all of the field.

    All of the field is its value of largest magnitude along Z: evidence for the foreground hides behind stronger
    evidence against it, while :data:`~lightning_emseg.attribution.areas.SHADOW` counts it.

    Args:
        window: Of a volume.
        probability: ``uint8 (Z, Y, X)``, 255 for certain foreground.
        shown: What was measured of pixels of this window, their fields, and the normalised values of these over the
            part of the window that belongs to the mosaic.
        captions: The figures of each pixel.
        zoom_px: As in :func:`~lightning_emseg.attribution.panels.attribution_panel`.

    Returns:
        RGB ``uint8``.
    """
    image = window.image[0][window.inside].round().astype(np.uint8)
    truth, probability = window.truth[window.inside], probability[window.inside]
    marked = np.where(truth == IGNORE, 90, 255 * (truth == 1)).astype(np.uint8)
    whole = whole_view(image.shape[1:])
    font = font_of(max(13, round(whole.width * whole.scale / 26)))
    nm_per_px = window.pixel_size_nm[-1]
    cells: list[Image.Image] = []
    panels: list[PanelField] = []
    for number, ((row, field, values), caption) in enumerate(zip(shown, captions, strict=True), 1):
        z, y, x = field.pixel
        view, colour = zoomed(whole, (y, x), zoom_px), OUTCOME_COLOURS[row.outcome]
        section = PanelField(row.outcome, (y, x), values[z], caption)
        for title, volume in ((f"{number}  image, z {z}", image), ("probability", probability), ("truth", marked)):
            picture = overview(volume[z], whole, [section], [view], nm_per_px, font, first=number)
            cells.append(framed(picture, [title], BLACK, 1, font))
        for panel, title in (
            (section, f"{number}  {row.outcome}  at z {z}, y {y}, x {x}"),
            (replace(section, values=projected(values), caption=""), f"{number}  largest magnitude along Z"),
        ):
            picture = field_picture(panel, view, nm_per_px, font)
            lines = [title, *wrapped(panel.caption, picture.width, font)]
            cells.append(framed(picture, lines, colour, max(3, round(font.size / 4)), font))
        panels.append(section)
    key = colour_key(cells[0].size, panels, font, zoomed=zoom_px is not None)
    return sheet([*cells, key], _COLUMNS, gap=round(font.size))


Shown = tuple[FieldRow, Field, Values]


def window_panel(
    window: Window,
    probability: Picture,
    shown: Sequence[tuple[FieldRow, Field]],
    thresholds: Sequence[float],
    reach: int | Sequence[int] | None,
) -> Picture:
    """Draw a window, without what lies outside of its mosaic, as in Figure 8 of the U-RISC preprint (2021).

    Args:
        window: Of an image, or of a volume: there every pixel is shown in its own section.
        probability: ``uint8`` of the window's shape, 255 for certain foreground.
        shown: What was measured of pixels of this window, and their fields.
        thresholds: That the sizes of the rows are of.
        reach: Distance from the pixel at which fields were cut off, in px, one for all axes or one an axis; ``None``
            where they were not.
    """
    place = list(thresholds).index(THRESHOLDS[0])
    fields = [(row, field, _over(window, field)) for row, field in shown]
    captions = [_caption(row, place) for row, _ in shown]
    side = None if reach is None else 2 * (reach if isinstance(reach, int) else max(reach[-SECTION_AXES:])) + 1
    # Boxes nearly as large as the window would hide it and enlarge nothing.
    zoom = side if side is not None and 1.5 * side < min(window.shape_inside[-SECTION_AXES:]) else None
    return _PANELS[window.truth.ndim](window, probability, fields, captions, zoom)


def _over(window: Window, field: Field) -> Values:
    """The normalised field over all of the window that belongs to the mosaic."""
    values = np.zeros(window.shape_inside, np.float32)
    part = field_inside(field, window.inside)
    values[tuple(slice(start, start + side) for start, side in zip(field.origin, part.shape, strict=True))] = part
    return values


def _caption(row: FieldRow, place: int) -> str:
    sizes = [
        f"S{size.extent.suffix}({THRESHOLDS[0]:g}) = {size.nm(place):,.0f} {size.extent.sign}" for size in row.sizes
    ]
    return ", ".join([*sizes, f"F(x) = {row.output:.2f}", f"F(x') = {row.baseline_output:.2f}"])


def _of_image(
    window: Window, probability: Picture, shown: Sequence[Shown], captions: Sequence[str], zoom_px: int | None
) -> Picture:
    image = window.image[0][window.inside].round().astype(np.uint8)
    fields = [
        PanelField(row.outcome, (field.pixel[0], field.pixel[1]), values, caption)
        for (row, field, values), caption in zip(shown, captions, strict=True)
    ]
    truth, probability = window.truth[window.inside], probability[window.inside]
    # The scale bar lies along X.
    return attribution_panel(image, probability, truth, fields, window.pixel_size_nm[-1], zoom_px)


_PANELS: Mapping[int, Callable[[Window, Picture, Sequence[Shown], Sequence[str], int | None], Picture]] = {
    2: _of_image,
    3: volume_panel,
}
