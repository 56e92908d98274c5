"""Tables of attribution areas: files with a row a pixel and a row an outcome, and text for a terminal."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_emseg.attribution.accuracy import Accuracy
from lightning_emseg.attribution.extent import Size
from lightning_emseg.attribution.table import MeanSize, Row, Summary, relative_error

Record = Mapping[str, str | int | float | None]


def point_records(rows: Sequence[Row], thresholds: Sequence[float], wanted: Sequence[float]) -> list[Record]:
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


def _of_point(size: Size, places: Mapping[float, int]) -> Record:
    extent = size.extent
    return {
        **{extent.column_at(k): size.nm(place) for k, place in places.items()},
        **{f"share{extent.suffix}_{k:g}": size.share(place) for k, place in places.items()},
        extent.place_column: size.place_nm,
        f"window{extent.suffix}_px": size.window,
    }


def summary_records(summaries: Sequence[Summary]) -> list[Record]:
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


def json_records(summaries: Sequence[Summary]) -> list[Record]:
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


def summary_text(summaries: Sequence[Summary], accuracy: Accuracy | None, exact_completeness: float | None) -> str:
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
