"""Tables of a study: one row a pixel, mean ± SE by outcome, records for files, text for a terminal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.geometry import Shape
from lightning_emseg.attribution.areas import EXTENTS, Accuracy, Extent, FieldSize, Values, normalise
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.points import OUTCOMES
from lightning_emseg.core.tables import MeanSE, align, mean_se, read_csv, read_json, to_number

Record = dict[str, str | int | float | None]
EVERY = "all"
"""Name of the summary over all outcomes."""
_EXTENTS = tuple(dict.fromkeys(each for extents in EXTENTS.values() for each in extents))
_JSON_NAMES = {
    "k": "threshold",
    "relative_completeness_error": "completeness",
    **{each.column: f"{each.quantity}{each.suffix}_{each.unit}" for each in _EXTENTS},
    **{f"{each.column}_se": f"{each.quantity}{each.suffix}_se" for each in _EXTENTS},
}
"""Names in ``summary.json`` by column of the CSV files."""


@dataclass(frozen=True)
class FieldRow:
    """What was measured of one pixel's field.

    Attributes:
        mosaic: ``<split>/<sample>``.
        position: Position of the pixel in its mosaic, in px.
        window: First pixel of its window in the mosaic, in px.
        outcome: ``TP``, ``FP``, ``FN`` or ``TN``; empty where there is no truth.
        output: F(x).
        baseline_output: F(x').
        completeness_error: ``|Σ A − (F(x) − F(x'))|``.
        sizes: Sizes of the field; first S_k, an area in images and a volume in volumes.
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
        nm: Mean in nm² or nm³.
        share: Mean share of the window, 0–1.
    """

    extent: Extent
    nm: MeanSE
    share: MeanSE


@dataclass(frozen=True)
class FieldSummary:
    """Mean ± SE over the pixels of one outcome, at one threshold.

    Attributes:
        outcome: One of :data:`~lightning_emseg.attribution.points.OUTCOMES`, or ``all``.
        threshold: k.
        pixels: Number of pixels n.
        sizes: Sizes of the fields; first S_k.
        completeness: Mean over pixels of the completeness error over ``max(|F(x) − F(x')|, 1)``.
        epoch: Epoch of a fit, where it is read from the callback's table.
    """

    outcome: str
    threshold: float
    pixels: int
    sizes: tuple[MeanSize, ...]
    completeness: float
    epoch: int | None = None


def normalise_inside(field: Field, inside: Sequence[slice]) -> Values:
    """Normalise a field over the part of it that belongs to the mosaic."""
    cut = tuple(slice(0, max(0, part.stop - start)) for part, start in zip(inside, field.origin, strict=True))
    return normalise(field.values[cut])


def relative_error(row: FieldRow, floor: float = 1.0) -> float:
    """Compute the completeness error over ``max(|F(x) − F(x')|, floor)``."""
    return row.completeness_error / max(abs(row.output - row.baseline_output), floor)


def mean_completeness(errors: Sequence[float]) -> float | None:
    """Compute the mean of relative completeness errors, ``None`` without any."""
    return float(np.mean(errors)) if errors else None


def summarise(rows: Sequence[FieldRow], thresholds: Sequence[float], wanted: Sequence[float]) -> list[FieldSummary]:
    """Compute mean ± SE of S_k by outcome, and over all of them.

    Args:
        rows: Rows of a study, all of images or all of volumes.
        thresholds: Thresholds that the sizes of the rows are of.
        wanted: Thresholds among them to be summarised.
    """
    by_outcome = {name: [row for row in rows if row.outcome == name] for name in OUTCOMES}
    summaries = []
    for outcome, chosen in {**by_outcome, EVERY: rows}.items():
        for k in wanted if chosen else ():
            place = list(thresholds).index(k)
            sizes = tuple(
                MeanSize(
                    some[0].extent,
                    mean_se(size.nm(place) for size in some),
                    mean_se(size.share(place) for size in some),
                )
                for some in zip(*(row.sizes for row in chosen), strict=True)
            )
            error = float(np.mean([relative_error(row) for row in chosen]))
            summaries.append(FieldSummary(outcome, k, len(chosen), sizes, error))
    return summaries


def point_records(rows: Sequence[FieldRow], thresholds: Sequence[float], wanted: Sequence[float]) -> list[Record]:
    """Make one record a pixel.

    Args:
        rows: Rows of a study.
        thresholds: Thresholds that the sizes of the rows are of.
        wanted: Thresholds among them that are given.
    """
    places = {k: list(thresholds).index(k) for k in wanted}
    records = []
    for row in rows:
        record: Record = {
            "mosaic": row.mosaic,
            **{f"{axis}_px": at for axis, at in zip("zyx"[-len(row.position) :], row.position, strict=True)},
            "outcome": row.outcome,
            "output": row.output,
            "baseline_output": row.baseline_output,
            "completeness_error": row.completeness_error,
            "relative_completeness_error": relative_error(row),
        }
        for size in row.sizes:
            suffix, unit = size.extent.suffix, size.extent.unit
            record |= {f"S{suffix}_{k:g}_{unit}": size.nm(place) for k, place in places.items()}
            record |= {f"share{suffix}_{k:g}": size.share(place) for k, place in places.items()}
            record |= {size.extent.place_column: size.place_nm, f"window{suffix}_px": size.window}
        records.append(record)
    return records


def summary_records(summaries: Sequence[FieldSummary]) -> list[Record]:
    """Make one record an outcome and threshold."""
    records = []
    for each in summaries:
        record: Record = {"outcome": each.outcome, "k": each.threshold, "pixels": each.pixels}
        for size in each.sizes:
            for name, value in ((size.extent.column, size.nm), (f"share{size.extent.suffix}", size.share)):
                record |= {name: value.mean, f"{name}_se": value.se}
        records.append({**record, "relative_completeness_error": each.completeness})
    return records


def json_records(summaries: Sequence[FieldSummary]) -> list[Record]:
    """Make one record an outcome and threshold, under the names of ``summary.json``."""
    records = summary_records(summaries)
    return [{_JSON_NAMES.get(key, key): value for key, value in record.items()} for record in records]


def read_summary(path: Path) -> tuple[list[FieldSummary], list[FieldSummary], dict[str, Any]]:
    """Read a study's ``summary.json``: its table, its curve of many thresholds, and the record of its method.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: if it is missing or damaged.
    """
    found, columns = read_json(path), {name: column for column, name in _JSON_NAMES.items()}
    table, curve = (
        [_parse_record({columns.get(key, key): value for key, value in record.items()}) for record in found[part]]
        for part in ("summary", "curve")
    )
    return table, curve, found.get("method", {})


def read_epochs(path: Path) -> list[FieldSummary]:
    """Read a ``summary-<verb>.csv`` of the callback; a fit has rows of several epochs.

    Raises:
        OSError, ValueError, LookupError: if it is missing or damaged.
    """
    return [_parse_record(record) for record in read_csv(path)]


def summary_text(summaries: Sequence[FieldSummary], accuracy: Accuracy | None, exact_completeness: float | None) -> str:
    """Format S_k by outcome and threshold, in nm² or nm³ and as share of the window, with the errors measured.

    Args:
        summaries: Summaries, at least one.
        accuracy: Accuracy of fast fields; of volumes these are errors of the volume.
        exact_completeness: Mean relative completeness error of exact fields.
    """
    titles = [
        title
        for size in summaries[0].sizes
        for title in (f"{size.extent.title} in {size.extent.sign}", size.extent.share)
    ]
    rows = [["outcome", "k", "pixels", *titles, "completeness"]]
    for each in summaries:
        cells = [cell for size in each.sizes for cell in (format_mean(size.nm, ",.0f"), format_mean(size.share, ".2%"))]
        rows.append([each.outcome, f"{each.threshold:g}", str(each.pixels), *cells, f"{each.completeness:.1%}"])
    lines = [align(rows)]
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


def format_mean(value: MeanSE, form: str) -> str:
    """Format a mean and its standard error, both by a format specification.

    >>> format_mean(MeanSE(0.5, 0.125, 4), ".1%")
    '50.0% ± 12.5%'
    """
    return f"{value.mean:{form}}" + ("" if value.se is None else f" ± {value.se:{form}}")


def _parse_record(record: Mapping[str, Any]) -> FieldSummary:
    """Parse a record of :func:`summary_records`."""
    pixels, epoch = int(record["pixels"]), record.get("epoch")

    def mean(column: str) -> MeanSE:
        error = to_number(record.get(f"{column}_se"))
        return MeanSE(to_number(record[column]), None if math.isnan(error) else error, pixels)

    for extents in EXTENTS.values():
        if extents[0].column in record:
            return FieldSummary(
                str(record["outcome"]),
                to_number(record["k"]),
                pixels,
                tuple(
                    MeanSize(extent, mean(extent.column), mean(f"share{extent.suffix}"))
                    for extent in extents
                    if extent.column in record
                ),
                to_number(record.get("relative_completeness_error")),
                int(epoch) if epoch else None,
            )
    raise KeyError(" or ".join(extents[0].column for extents in EXTENTS.values()))
