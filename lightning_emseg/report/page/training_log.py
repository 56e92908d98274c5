"""Training curves, from ``metrics.csv``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.report.page.reading import number, records

_PREFIXES = {"train": "training patches", "val_tiles": "validation tiles", "val": "validation, whole mosaics"}
_NO_CURVES = ("epoch", "step", "attribution/")


@dataclass(frozen=True)
class Curve:
    """One quantity during a fit.

    Attributes:
        quantity: What was measured, e.g. ``f1``.
        source: On what, e.g. ``validation tiles``; empty where the log does not say.
        step: Optimiser steps, rising.
        value: Of the same length.
        se: Standard errors over mosaics of the same length, or empty.
    """

    quantity: str
    source: str
    step: tuple[float, ...]
    value: tuple[float, ...]
    se: tuple[float, ...] = ()


def read_log(path: Path) -> tuple[Curve, ...]:
    """Curves of a ``metrics.csv`` with epoch means where the log has both these and values by step.

    Raises:
        ValueError: if a value is no number or a row has no step.
    """
    rows = records(path)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if rows and "step" not in columns:
        raise ValueError("it has no column 'step'")
    points: dict[str, dict[float, float]] = {column: {} for column in columns}
    for row in rows:
        for column, text in row.items():
            if not column.startswith(_NO_CURVES):
                points[column][number(row.get("step"))] = number(text)
    wanted = [column for column in columns if points[column] and not _is_shadowed(column, columns)]
    return tuple(_curve(column, points) for column in wanted)


def _is_shadowed(column: str, columns: list[str]) -> bool:
    stem = column.removesuffix("_step")
    return f"{stem}_epoch" in columns or (column.endswith("_se") and column.removesuffix("_se") in columns)


def _curve(column: str, points: Mapping[str, Mapping[float, float]]) -> Curve:
    prefix, slash, rest = column.removesuffix("_epoch").partition("/")
    known = bool(slash) and prefix in _PREFIXES
    found = {step: value for step, value in sorted(points[column].items()) if math.isfinite(value)}
    errors = points.get(f"{column}_se", {})
    return Curve(
        quantity=rest if known else column.removesuffix("_epoch"),
        source=_PREFIXES[prefix] if known else "",
        step=tuple(found),
        value=tuple(found.values()),
        se=tuple(errors.get(step, math.nan) for step in found) if errors else (),
    )
