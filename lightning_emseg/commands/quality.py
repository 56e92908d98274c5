"""``emseg data quality``: image sharpness before and after downsampling."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.convert.shrink import Shrink
from data_modules.errors import UserError
from data_modules.store import MosaicStore, MosaicView, shard_rows
from lightning_emseg.core.tables import MeanSE, mean_se
from lightning_emseg.metrics.sharpness import Sharpness, SharpnessSums, sharpness_sums

Curve = Sequence[tuple[float, Sharpness]]
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
    for axes, field in zip(panels.flat, fields(Sharpness), strict=True):
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
        summaries = [mean_se(level) for level in values.tolist()]
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


Pixels = NDArray[np.uint8]
Filter = Literal["box", "nearest"]
CRITERIA = tuple(field.name for field in fields(Sharpness))
_SMALLEST = 3
"""Pixels along a side that every criterion has at least one term for."""


@dataclass(frozen=True)
class Level:
    """One mosaic at one resolution.

    Attributes:
        mosaic: ``<split>/<sample>``.
        name: ``original``, ``1/<factor>`` or ``<size> px``.
        shape: Height and width in px.
        pixel_size_nm: Along Y and X.
        total: Criteria as sums.
        per_pixel: Criteria as means.
    """

    mosaic: str
    name: str
    shape: tuple[int, int]
    pixel_size_nm: tuple[float, float]
    total: Sharpness
    per_pixel: Sharpness


def quality(
    store: str,
    split: str | None = None,
    downsample: Sequence[int] = (2, 4),
    size: int | None = None,
    filter: Filter = "box",
    out: Path | None = None,
) -> str:
    """Measure image definition (Brenner, SMD2, variance, Vollath) before and after downsampling.

    Every mosaic is compared with itself, per pixel, and read once, band by band: memory does not grow with its height.
    Ignored pixels and black borders count like all others.

    Args:
        store: Path or URL of the store.
        split: Split to measure; all of them by default.
        downsample: Factors, at least 2. Rows and columns beyond the last whole block are left out.
        size: Another level, whose longer side has this many px, e.g. 1024 as in Track 2 of U-RISC; for this one a
            mosaic is read again and held in memory as a whole.
        filter: box is the mean over a block, rounded to 8 bit; nearest takes the first pixel of every block (for size
            the middle one).
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
        _make_folder(out)
    levels = [measure(mosaic, downsample, size, filter) for mosaic in mosaics]
    parts = [f"image definition per pixel and its ratio to the original's; filter of smaller levels: {filter}"]
    parts += [_table(levels), _means(levels)]
    if out is not None:
        _write_csv(out / "quality.csv", levels, filter)
        curves = {rows[0].mosaic: [(row.pixel_size_nm[1], row.per_pixel) for row in rows] for rows in levels}
        quality_figure(curves).savefig(out / "quality.png")
        parts.append(f"{out / 'quality.csv'}, {out / 'quality.png'}")
    return "\n\n".join(parts)


def measure(mosaic: MosaicView, downsample: Sequence[int], size: int | None, filter: Filter) -> list[Level]:
    """Criteria of one 2D mosaic: original, by each factor, and with ``size`` px along the longer side."""
    original, smaller = SharpnessSums(), {factor: _Reduced(factor, _REDUCE[filter]) for factor in downsample}
    for rows in _bands(mosaic):
        original.update(rows)
        for reduced in smaller.values():
            reduced.update(rows)
    levels = [_level(mosaic, "original", original, (1, 1))]
    levels += [_level(mosaic, f"1/{factor}", each.sums, (factor, factor)) for factor, each in smaller.items()]
    if size is not None:
        y, x = mosaic.shape
        shrink = Shrink((y, x), _fit((y, x), size), filter)
        sums = sharpness_sums(shrink.image(mosaic.read_image((0, 0), (y, x))))
        levels.append(_level(mosaic, f"{size} px", sums, (y / sums.shape[0], x / sums.shape[1])))
    return levels


def _level(mosaic: MosaicView, name: str, sums: SharpnessSums, scale: tuple[float, float]) -> Level:
    y, x = mosaic.pixel_size_nm
    return Level(mosaic.key, name, sums.shape, (y * scale[0], x * scale[1]), sums.total, sums.per_pixel)


def _bands(mosaic: MosaicView) -> Iterator[Pixels]:
    height, width = mosaic.shape
    step = shard_rows(mosaic.shape)
    for start in tqdm(range(0, height, step), desc=mosaic.key, leave=False, disable=None):
        yield mosaic.read_image((start, 0), (min(step, height - start), width))


class _Reduced:
    """Criteria of a downsampled image, from bands of any height of the original."""

    def __init__(self, factor: int, reduce: Callable[[Pixels, int], Pixels]) -> None:
        self.sums = SharpnessSums()
        self._factor, self._reduce = factor, reduce
        self._rest: list[Pixels] = []

    def update(self, rows: Pixels) -> None:
        joined = np.concatenate([*self._rest, rows])
        whole = len(joined) // self._factor * self._factor
        self._rest = [joined[whole:].copy()]
        self.sums.update(self._reduce(joined[:whole, : joined.shape[1] // self._factor * self._factor], self._factor))


def _block_means(rows: Pixels, factor: int) -> Pixels:
    # Along Y first: these sums run over neighbouring memory and leave little to do along X.
    narrow = np.zeros((len(rows) // factor, rows.shape[1]), np.uint32)
    for first in range(factor):
        narrow += rows[first::factor]
    total = np.zeros((len(narrow), rows.shape[1] // factor), np.uint32)
    for first in range(factor):
        total += narrow[:, first::factor]
    return ((total + factor**2 // 2) // factor**2).astype(np.uint8)


def _first_of_blocks(rows: Pixels, factor: int) -> Pixels:
    return rows[::factor, ::factor]


_REDUCE: Mapping[Filter, Callable[[Pixels, int], Pixels]] = {"box": _block_means, "nearest": _first_of_blocks}


def _fit(shape: tuple[int, int], size: int) -> tuple[int, int]:
    y, x = (max(1, round(side * size / max(shape))) for side in shape)
    return y, x


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
            shapes[f"--size {size}"] = _fit((y, x), size)
        for option, shape in shapes.items():
            if min(shape) < _SMALLEST:
                raise UserError(f"{option} would leave {shape} px of {mosaic.key}: at least {_SMALLEST} are needed")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {path} cannot be made ({error.strerror}): choose another folder") from error


def _ratio(level: Level, original: Level, criterion: str) -> float:
    before: float = getattr(original.per_pixel, criterion)
    after: float = getattr(level.per_pixel, criterion)
    return after / before if before else float("nan")


def _nm(level: Level) -> str:
    y, x = (f"{size:.4g}" for size in level.pixel_size_nm)
    return x if x == y else f"{y} × {x}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    columns = [[cell.rjust(max(map(len, column))) for cell in column] for column in zip(*rows, strict=True)]
    columns[:left] = [[cell.strip().ljust(len(cell)) for cell in column] for column in columns[:left]]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _table(mosaics: Sequence[Sequence[Level]]) -> str:
    rows = [["mosaic", "level", "px", "nm/px", *(cell for name in CRITERIA for cell in (name, "ratio"))]]
    for levels in mosaics:
        for level in levels:
            cells = [level.mosaic, level.name, f"{level.shape[0]} × {level.shape[1]}", _nm(level)]
            for name in CRITERIA:
                cells += [f"{getattr(level.per_pixel, name):.2f}", f"{_ratio(level, levels[0], name):.3f}"]
            rows.append(cells)
    return _aligned(rows, left=2)


def _means(mosaics: Sequence[Sequence[Level]]) -> str:
    rows = [["level", "", "nm/px", *CRITERIA]]
    for levels in zip(*mosaics, strict=True):
        pixel_sizes = {_nm(level) for level in levels}
        nm = pixel_sizes.pop() if len(pixel_sizes) == 1 else "various"
        values = [mean_se([getattr(level.per_pixel, name) for level in levels]) for name in CRITERIA]
        ratios = [
            mean_se([_ratio(level, first[0], name) for level, first in zip(levels, mosaics, strict=True)])
            for name in CRITERIA
        ]
        rows.append([levels[0].name, "value", nm, *(_summary(value, ".2f") for value in values)])
        rows.append(["", "ratio", "", *(_summary(ratio, ".3f") for ratio in ratios)])
    error = " ± SE" if len(mosaics) > 1 else ""
    return f"mean{error} over mosaics ({len(mosaics)})\n{_aligned(rows, left=2)}"


def _summary(value: MeanSE, form: str) -> str:
    return f"{value.mean:{form}}" + ("" if value.se is None else f" ± {value.se:{form}}")


def _write_csv(path: Path, mosaics: Sequence[Sequence[Level]], filter: Filter) -> None:
    header = ["mosaic", "level", "filter", "height_px", "width_px", "pixel_size_y_nm", "pixel_size_x_nm"]
    header += [f"{name}_{kind}" for kind in ("sum", "per_pixel", "ratio") for name in CRITERIA]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for levels in mosaics:
            for level in levels:
                cells = [level.mosaic, level.name, filter, *level.shape, *level.pixel_size_nm]
                cells += [getattr(values, name) for values in (level.total, level.per_pixel) for name in CRITERIA]
                writer.writerow([*cells, *(_ratio(level, levels[0], name) for name in CRITERIA)])
