"""``emseg data quality``: image sharpness before and after downsampling."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView
from lightning_emseg.core.figures import hex_colour, style_plot
from lightning_emseg.core.tables import align, mean_se, write_csv
from lightning_emseg.metrics.sharpness import Filter, Sharpness, SharpnessLevel, fit, measure_levels

Levels = Sequence[SharpnessLevel]
Values = NDArray[np.float64]
CRITERIA = Sharpness._fields
_TITLES = ("Brenner", "SMD2", "Variance", "Vollath")
_MOSAIC, _MEAN = hex_colour("light blue"), hex_colour("red")
_CLOSEST = 1.15
"""Ratio of pixel sizes below which the labels of two levels would overlap."""
_SMALLEST = 3
"""Pixels along a side that every criterion has at least one term for."""


def quality(
    store: str,
    split: str | None = None,
    downsample: Sequence[int] = (2, 4),
    size: int | None = None,
    filter: Filter = "box",
    out: Path | None = None,
) -> str:
    """Measure image sharpness (Brenner, SMD2, variance, Vollath) before and after downsampling.

    Every mosaic is compared with itself, per pixel, and read once, band by band: memory does not grow with its height.
    Ignored pixels and black borders count like all others.

    Args:
        store: Path or URL of the store.
        split: Split to measure; all of them by default.
        downsample: Factors, at least 2. Rows and columns beyond the last whole block are left out.
        size: Length of the longer side in px of one more level, e.g. 1024 as in Track 2 of U-RISC; for this one a
            mosaic is read again and held in memory as a whole.
        filter: Filter of smaller levels; box is the mean over a block, rounded to 8 bit, nearest takes the first pixel
            of every block (for size the middle one).
        out: Folder for quality.csv (with sums) and quality.png.

    Raises:
        UserError: if the store or split does not exist or is empty, a mosaic is a volume, a level would be larger than
            its mosaic or too small to measure, or the folder cannot be made.
    """
    samples = MosaicStore(store).samples(split)
    if not samples:
        raise UserError(f"store {store} has no samples: convert images into it with `emseg data convert`")
    mosaics = [MosaicView.of(sample, None) for sample in samples]
    _check(mosaics, downsample, size)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {out} cannot be made ({error.strerror}): choose another folder") from error
    levels = [measure_levels(mosaic, downsample, size, filter) for mosaic in mosaics]
    parts = [f"image sharpness per pixel and its ratio to the original's; filter of smaller levels: {filter}"]
    parts += [_table(levels), _means(levels)]
    if out is not None:
        write_csv(out / "quality.csv", [_record(level, filter) for rows in levels for level in rows])
        sharpness_figure(levels).savefig(out / "quality.png")
        parts.append(f"{out / 'quality.csv'}, {out / 'quality.png'}")
    return "\n\n".join(parts)


def _check(mosaics: Sequence[MosaicView], downsample: Sequence[int], size: int | None) -> None:
    if min(downsample, default=2) < 2 or len(set(downsample)) < len(downsample):
        raise UserError(f"--downsample {list(downsample)}: give different factors of at least 2, e.g. [2,4]")
    for mosaic in mosaics:
        if len(mosaic.shape) != 2:
            raise UserError(f"{mosaic.key} is a volume {mosaic.shape}: choose a --split that has 2D mosaics alone")
        y, x = mosaic.shape
        if size is not None and size > max(y, x):
            raise UserError(f"{mosaic.key} is only {mosaic.shape} px: choose a smaller --size than {size}")
        shapes = {f"--downsample {factor}": (y // factor, x // factor) for factor in downsample}
        if size is not None:
            shapes[f"--size {size}"] = fit((y, x), size)
        for option, shape in shapes.items():
            if min(shape) < _SMALLEST:
                raise UserError(f"{option} would leave {shape} px of {mosaic.key}: at least {_SMALLEST} are needed")


def _nm(level: SharpnessLevel) -> str:
    y, x = (f"{size:.4g}" for size in level.pixel_size_nm)
    return x if x == y else f"{y} × {x}"


def _table(mosaics: Sequence[Levels]) -> str:
    rows = [["mosaic", "level", "px", "nm/px", *(cell for name in CRITERIA for cell in (name, "ratio"))]]
    for level in (level for levels in mosaics for level in levels):
        cells = [level.mosaic, level.name, f"{level.shape[0]} × {level.shape[1]}", _nm(level)]
        for value, ratio in zip(level.per_pixel, level.ratio, strict=True):
            cells += [f"{value:.2f}", f"{ratio:.3f}"]
        rows.append(cells)
    return align(rows)


def _means(mosaics: Sequence[Levels]) -> str:
    rows = [["level", "", "nm/px", *CRITERIA]]
    for levels in zip(*mosaics, strict=True):
        pixel_sizes = {_nm(level) for level in levels}
        nm = pixel_sizes.pop() if len(pixel_sizes) == 1 else "various"
        values, ratios = ([getattr(level, kind) for level in levels] for kind in ("per_pixel", "ratio"))
        rows.append([levels[0].name, "value", nm, *_summaries(values, ".2f")])
        rows.append(["", "ratio", "", *_summaries(ratios, ".3f")])
    error = " ± SE" if len(mosaics) > 1 else ""
    return f"mean{error} over mosaics ({len(mosaics)})\n{align(rows)}"


def _summaries(values: Sequence[Sharpness], form: str) -> list[str]:
    means = [mean_se(column) for column in zip(*values, strict=True)]
    return [f"{each.mean:{form}}" + ("" if each.se is None else f" ± {each.se:{form}}") for each in means]


def _record(level: SharpnessLevel, filter: Filter) -> dict[str, object]:
    """Row of ``quality.csv``."""
    (height, width), (y, x) = level.shape, level.pixel_size_nm
    record: dict[str, object] = {"mosaic": level.mosaic, "level": level.name, "filter": filter}
    record |= {"height_px": height, "width_px": width, "pixel_size_y_nm": y, "pixel_size_x_nm": x}
    for kind, values in (("sum", level.total), ("per_pixel", level.per_pixel), ("ratio", level.ratio)):
        record |= {f"{name}_{kind}": value for name, value in zip(CRITERIA, values, strict=True)}
    return record


def sharpness_figure(mosaics: Sequence[Levels]) -> Figure:
    """Plot criteria per pixel (grey levels squared) over nm per pixel: a thin line a mosaic, their mean ± SE thick.

    Args:
        mosaics: Levels of each mosaic, in one order for all. Where their pixel sizes differ, the mean stands at the
            mean size.

    Returns:
        Four panels, 9 × 7 inches.

    Raises:
        ValueError: if there are no mosaics, or they differ in their number of levels.
    """
    if not mosaics:
        raise ValueError("there are no mosaics to plot")
    levels = list(zip(*mosaics, strict=True))
    sizes = np.array([[each.pixel_size_nm[1] for each in level] for level in levels])
    # Levels may come in any order, lines run from small pixels to large ones.
    order = np.argsort(sizes.mean(axis=1))
    figure = Figure(figsize=(9, 7), dpi=150, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for place, (axes, title) in enumerate(zip(panels.flat, _TITLES, strict=True)):
        values = np.array([[each.per_pixel[place] for each in level] for level in levels])
        _draw(axes, sizes[order], values[order])
        axes.set_title(title)
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
        summaries = [mean_se(level) for level in values.tolist()]
        means, errors = [each.mean for each in summaries], [each.se or 0.0 for each in summaries]
        label = f"mean ± SE of {count} mosaics"
        axes.errorbar(
            centres, means, errors, color=_MEAN, linewidth=2.5, elinewidth=1.5, capsize=4, label=label, zorder=3
        )
    axes.set_xscale("log")
    labelled: list[float] = []
    for size in centres.tolist():
        if not labelled or size >= _CLOSEST * labelled[-1]:
            labelled.append(size)
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{size:.3g}" for size in labelled]))
    axes.xaxis.set_minor_locator(NullLocator())
    # From 0, so that heights can be compared; Vollath's covariance may lie below.
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if np.nanmin(values) < 0 else 0.0)
    style_plot(axes)
