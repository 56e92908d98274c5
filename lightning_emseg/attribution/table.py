"""Tables of a study: one row a pixel, mean ± SE by outcome, CSV files, text for a terminal."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.geometry import Shape
from lightning_emseg.attribution.areas import Accuracy, Extent, FieldSize, Values, normalised
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.points import OUTCOMES

EVERY = "all"
"""Name of the summary over all outcomes."""


@dataclass(frozen=True)
class FieldRow:
    """What was measured of one pixel's field.

    Attributes:
        mosaic: ``<split>/<sample>``.
        position: Of the pixel in its mosaic, in px.
        window: First pixel of its window in the mosaic, in px.
        outcome: ``TP``, ``FP``, ``FN`` or ``TN``; empty where there is no truth.
        output: F(x).
        baseline_output: F(x').
        completeness_error: ``|Σ A − (F(x) − F(x'))|``.
        sizes: Of the field; first S_k, an area in images and a volume in volumes.
    """

    mosaic: str
    position: Shape
    window: Shape
    outcome: str
    output: float
    baseline_output: float
    completeness_error: float
    sizes: tuple[FieldSize, ...]


@dataclass(frozen=True)
class MeanSize:
    """Mean ± SE over pixels of one extent of their fields.

    Attributes:
        extent: How it was measured.
        nm: Mean, in nm² or nm³.
        nm_se: Standard deviation over √n, ddof 1; ``None`` for one pixel.
        share: Mean over the window, 0–1.
        share_se: Likewise.
    """

    extent: Extent
    nm: float
    nm_se: float | None
    share: float
    share_se: float | None


@dataclass(frozen=True)
class FieldSummary:
    """Mean ± SE over the pixels of one outcome, at one threshold.

    Attributes:
        outcome: Of :data:`~lightning_emseg.attribution.points.OUTCOMES`, or ``all``.
        threshold: k.
        pixels: Number of pixels n.
        sizes: Of the fields; first S_k.
        completeness: Mean over pixels of the completeness error over ``max(|F(x) − F(x')|, 1)``.
    """

    outcome: str
    threshold: float
    pixels: int
    sizes: tuple[MeanSize, ...]
    completeness: float


def field_inside(field: Field, inside: Sequence[slice]) -> Values:
    """The normalised field, over the part of it that belongs to the mosaic."""
    cut = tuple(slice(0, max(0, part.stop - start)) for part, start in zip(inside, field.origin, strict=True))
    return normalised(field.values[cut])


def relative_error(row: FieldRow, floor: float = 1.0) -> float:
    """Completeness error over ``max(|F(x) − F(x')|, floor)``."""
    return row.completeness_error / max(abs(row.output - row.baseline_output), floor)


def mean_completeness(errors: Sequence[float]) -> float | None:
    """Mean of relative completeness errors, ``None`` without any."""
    return float(np.mean(errors)) if errors else None


def summarise(rows: Sequence[FieldRow], thresholds: Sequence[float], wanted: Sequence[float]) -> list[FieldSummary]:
    """Mean ± SE of S_k by outcome, and over all of them.

    Args:
        rows: Of a study, all of images or all of volumes.
        thresholds: That the sizes of the rows are of.
        wanted: Thresholds among them to be summarised.
    """
    return [
        _summary(outcome, k, list(thresholds).index(k), chosen) for outcome, chosen in _by_outcome(rows) for k in wanted
    ]


def _by_outcome(rows: Sequence[FieldRow]) -> Iterator[tuple[str, list[FieldRow]]]:
    for outcome in OUTCOMES:
        if chosen := [row for row in rows if row.outcome == outcome]:
            yield outcome, chosen
    if rows:
        yield EVERY, list(rows)


def _summary(outcome: str, threshold: float, place: int, rows: Sequence[FieldRow]) -> FieldSummary:
    sizes = tuple(
        MeanSize(
            some[0].extent,
            *_mean_se([size.nm(place) for size in some]),
            *_mean_se([size.share(place) for size in some]),
        )
        for some in zip(*(row.sizes for row in rows), strict=True)
    )
    error = float(np.mean([relative_error(row) for row in rows]))
    return FieldSummary(outcome, threshold, len(rows), sizes, error)


def _mean_se(values: Sequence[float]) -> tuple[float, float | None]:
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


Record = Mapping[str, str | int | float | None]


def point_records(rows: Sequence[FieldRow], thresholds: Sequence[float], wanted: Sequence[float]) -> list[Record]:
    """One record a pixel.

    Args:
        rows: Of a study.
        thresholds: That the sizes of the rows are of.
        wanted: Thresholds among them that are given.
    """
    places = {k: list(thresholds).index(k) for k in wanted}
    return [
        {
            "mosaic": row.mosaic,
            **{f"{axis}_px": at for axis, at in zip("zyx"[-len(row.position) :], row.position, strict=True)},
            "outcome": row.outcome,
            "output": row.output,
            "baseline_output": row.baseline_output,
            "completeness_error": row.completeness_error,
            "relative_completeness_error": relative_error(row),
            **{key: value for size in row.sizes for key, value in _of_point(size, places).items()},
        }
        for row in rows
    ]


def _of_point(size: FieldSize, places: Mapping[float, int]) -> Record:
    extent = size.extent
    return {
        **{extent.column_at(k): size.nm(place) for k, place in places.items()},
        **{f"share{extent.suffix}_{k:g}": size.share(place) for k, place in places.items()},
        extent.place_column: size.place_nm,
        f"window{extent.suffix}_px": size.window,
    }


def summary_records(summaries: Sequence[FieldSummary]) -> list[Record]:
    """One record an outcome and threshold."""
    return [
        {
            "outcome": each.outcome,
            "k": each.threshold,
            "pixels": each.pixels,
            **{key: value for size in each.sizes for key, value in _of_mean(size).items()},
            "relative_completeness_error": each.completeness,
        }
        for each in summaries
    ]


def _of_mean(size: MeanSize) -> Record:
    extent = size.extent
    share = f"share{extent.suffix}"
    return {extent.column: size.nm, f"{extent.column}_se": size.nm_se, share: size.share, f"{share}_se": size.share_se}


def json_records(summaries: Sequence[FieldSummary]) -> list[Record]:
    """One record an outcome and threshold, under the names of ``summary.json``."""
    return [
        {
            "outcome": each.outcome,
            "threshold": each.threshold,
            "pixels": each.pixels,
            **{key: value for size in each.sizes for key, value in _in_json(size).items()},
            "completeness": each.completeness,
        }
        for each in summaries
    ]


def _in_json(size: MeanSize) -> Record:
    extent = size.extent
    name, share = f"{extent.quantity}{extent.suffix}", f"share{extent.suffix}"
    return {f"{name}_{extent.unit}": size.nm, f"{name}_se": size.nm_se, share: size.share, f"{share}_se": size.share_se}


def write_records(path: Path, records: Sequence[Record], append: bool = False) -> None:
    """Write records of one kind as CSV, floats in full precision; nothing where there are none."""
    if not records:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = append and path.is_file()
    with path.open("a" if append else "w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        if not begun:
            writer.writeheader()
        writer.writerows(records)


def summary_text(summaries: Sequence[FieldSummary], accuracy: Accuracy | None, exact_completeness: float | None) -> str:
    """S_k by outcome and threshold, in nm² or nm³ and as share of the window, with the errors that were measured.

    Args:
        summaries: At least one.
        accuracy: Of fast fields; of volumes these are errors of the volume.
        exact_completeness: Mean relative completeness error of exact fields.
    """
    titles = "".join(
        f"{f'{size.extent.title} in {size.extent.sign}':>22}{size.extent.share:>20}" for size in summaries[0].sizes
    )
    lines = [f"{'outcome':<8}{'k':>6}{'pixels':>8}{titles}{'completeness':>14}"]
    for each in summaries:
        first = f"{each.outcome:<8}{each.threshold:>6g}{each.pixels:>8}"
        lines.append(f"{first}{''.join(map(_cells, each.sizes))}{each.completeness:>14.1%}")
    if accuracy is not None:
        errors = ", ".join(
            f"{error:.1%} (k = {k:g}, bias {bias:+.1%})"
            for k, error, bias in zip(accuracy.thresholds, accuracy.mean_error, accuracy.bias, strict=True)
        )
        lines.append(
            f"error of the fast path on {accuracy.pixels} pixels: S_k {errors}; "
            f"correlation {accuracy.correlation:.4f}, at least {accuracy.smallest_correlation:.4f}"
        )
    if exact_completeness is not None:
        lines.append(f"completeness error of their exact fields {exact_completeness:.1%}; fast ones are cut off")
    return "\n".join(lines)


def _cells(size: MeanSize) -> str:
    share = _with_se(100 * size.share, size.share_se and 100 * size.share_se, "{:.2f}")
    return f"{_with_se(size.nm, size.nm_se, '{:,.0f}'):>22}{share + ' %':>20}"


def _with_se(mean: float, se: float | None, form: str) -> str:
    return form.format(mean) + ("" if se is None else f" ± {form.format(se)}")
