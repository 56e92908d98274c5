"""Tables of attribution areas: files with a row a pixel and a row an outcome, and text for a terminal."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning_emseg.attribution.accuracy import Accuracy
from lightning_emseg.attribution.table import Row, Summary, relative_error

Record = Mapping[str, str | int | float | None]


def point_records(rows: Sequence[Row], thresholds: Sequence[float], wanted: Sequence[float]) -> list[Record]:
    """One record a pixel.

    Args:
        rows: Of a study.
        thresholds: That ``areas_px`` of the rows are of.
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
            **{f"S_{k:g}_nm2": row.areas_px[place] * row.pixel_nm2 for k, place in places.items()},
            **{f"share_{k:g}": row.areas_px[place] / row.window_px for k, place in places.items()},
            "pixel_nm2": row.pixel_nm2,
            "window_px": row.window_px,
        }
        for row in rows
    ]


def summary_records(summaries: Sequence[Summary]) -> list[Record]:
    """One record an outcome and threshold."""
    return [
        {
            "outcome": each.outcome,
            "k": each.threshold,
            "pixels": each.pixels,
            "S_nm2": each.area_nm2,
            "S_nm2_se": each.area_se,
            "share": each.share,
            "share_se": each.share_se,
            "relative_completeness_error": each.completeness,
        }
        for each in summaries
    ]


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
    """S_k by outcome and threshold, in nm² and as share of the window, with the errors that were measured."""
    lines = [f"{'outcome':<8}{'k':>6}{'pixels':>8}{'S_k in nm²':>22}{'share of window':>20}{'completeness':>14}"]
    for each in summaries:
        area = _with_se(each.area_nm2, each.area_se, "{:,.0f}")
        share = _with_se(100 * each.share, each.share_se and 100 * each.share_se, "{:.2f}")
        first = f"{each.outcome:<8}{each.threshold:>6g}{each.pixels:>8}"
        lines.append(f"{first}{area:>22}{share + ' %':>20}{each.completeness:>14.1%}")
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


def _with_se(mean: float, se: float | None, form: str) -> str:
    return form.format(mean) + ("" if se is None else f" ± {form.format(se)}")
