"""Files of a run, of which any may be missing or damaged."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lightning_emseg.core.tables import MeanSE, mean_se

Read = TypeVar("Read")
Record = dict[str, str]
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, csv.Error, yaml.YAMLError)


def attempt(read: Callable[[Path], Read], path: Path, notes: list[str]) -> Read | None:
    """What ``read`` makes of a file, or ``None`` where it does not exist or is damaged.

    Args:
        read: Raises one of the usual errors when it meets something unexpected.
        path: Of the file.
        notes: Gets a sentence that names the file, where it exists and cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return read(path)
    except _DAMAGE as error:
        notes.append(f"{path} cannot be read and is left out: {type(error).__name__}: {error}")
        return None


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        ValueError: if it is no JSON or something else.
    """
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"expected an object, found {type(found).__name__}")
    return found


def records(path: Path) -> list[Record]:
    """Rows of a CSV file by column name; a row that was cut off lacks its last columns.

    Raises:
        ValueError: if it is not text.
    """
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key and value} for row in csv.DictReader(file)]


def number(value: object) -> float:
    """A number of a JSON or CSV file; NaN where there is none.

    >>> number("0.5"), number(None)
    (0.5, nan)

    Raises:
        ValueError: if it is a text that is no number.
    """
    if value is None or value == "":
        return float("nan")
    if isinstance(value, int | float | str):
        return float(value)
    raise ValueError(f"expected a number, found {value!r}")


def numbers(values: object) -> tuple[float, ...]:
    """Numbers of a JSON list.

    Raises:
        ValueError: if it is no list of numbers.
    """
    if not isinstance(values, list):
        raise ValueError(f"expected a list of numbers, found {type(values).__name__}")
    return tuple(map(number, values))


COUNTS = ("tp", "fp", "fn", "tn")
_FIRST = ("f1", "precision", "recall", "iou", "average_precision", "roc_auc")


@dataclass(frozen=True)
class ThresholdCurve:
    """Means over mosaics by threshold; each tuple has a value a threshold or is empty where it was not recorded.

    Attributes:
        threshold: Probabilities, 0–1, rising.
        f1: 0–1.
        precision: 0–1.
        recall: 0–1.
    """

    threshold: tuple[float, ...]
    f1: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


@dataclass(frozen=True)
class Scores:
    """Scores of one run on one split.

    Attributes:
        verb: ``test`` or ``validate``.
        label: Name of the foreground class.
        threshold: Probability from which on a pixel was foreground, 0–1.
        criterion: How the threshold was chosen.
        rows: Scores by mosaic and column; NaN where a score does not exist.
        curve: By threshold.
        partial: Mosaics that were seen in part and are not scored: pixels seen and wanted.
    """

    verb: str
    label: str
    threshold: float
    criterion: str
    rows: Mapping[str, Mapping[str, float]]
    curve: ThresholdCurve
    partial: Mapping[str, tuple[int, int]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in the order of the file."""
        return tuple(dict.fromkeys(column for row in self.rows.values() for column in row))

    @property
    def main_columns(self) -> tuple[str, ...]:
        """Columns that are shown first: the foreground's, the background's F1, and those of further metrics."""
        first = [f"{self.label}_{score}" for score in _FIRST] + ["background_f1"]
        others = [
            column
            for column in self.columns
            if column not in (*first, *COUNTS)
            and not column.startswith("background_")
            and not column.endswith("_at_0.5")
        ]
        return tuple(column for column in (*first, *others) if column in self.columns)

    @property
    def f1_column(self) -> str:
        """Name of the foreground's F1."""
        return f"{self.label}_f1"

    def values(self, column: str) -> dict[str, float]:
        """A column by mosaic."""
        return {key: row.get(column, float("nan")) for key, row in self.rows.items()}

    def summary(self, column: str) -> MeanSE:
        """Mean ± SE over the mosaics that have the score."""
        return mean_se(list(self.values(column).values()))


def read_scores(path: Path) -> Scores:
    """Read a ``scores-<verb>.json``.

    Raises:
        ValueError: if the file or a number is not as expected.
        KeyError: if a part is missing.
    """
    found = json_object(path)
    curve = found.get("f1_by_threshold", {})
    parts = [numbers(curve.get(name, [])) for name in ("threshold", "mean_f1", "mean_precision", "mean_recall")]
    if any(part and len(part) != len(parts[0]) for part in parts):
        raise ValueError("the parts of f1_by_threshold are of different lengths")
    return Scores(
        verb=path.stem.removeprefix("scores-"),
        label=str(found["label"]),
        threshold=number(found["threshold"]),
        criterion=str(found["criterion"]),
        rows={
            str(key): {str(name): number(value) for name, value in row.items()} for key, row in found["mosaics"].items()
        },
        curve=ThresholdCurve(*parts),
        partial={str(key): (each["pixels_seen"], each["pixels"]) for key, each in found.get("partial", {}).items()},
    )


_PREFIXES = {"train": "training patches", "val_tiles": "validation tiles", "val": "validation, whole mosaics"}
_NO_CURVES = ("epoch", "step", "attribution/")


@dataclass(frozen=True)
class TrainingCurve:
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


def read_log(path: Path) -> tuple[TrainingCurve, ...]:
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


def _curve(column: str, points: Mapping[str, Mapping[float, float]]) -> TrainingCurve:
    prefix, slash, rest = column.removesuffix("_epoch").partition("/")
    known = bool(slash) and prefix in _PREFIXES
    found = {step: value for step, value in sorted(points[column].items()) if math.isfinite(value)}
    errors = points.get(f"{column}_se", {})
    return TrainingCurve(
        quantity=rest if known else column.removesuffix("_epoch"),
        source=_PREFIXES[prefix] if known else "",
        step=tuple(found),
        value=tuple(found.values()),
        se=tuple(errors.get(step, math.nan) for step in found) if errors else (),
    )


QUALITY_FILE = "quality.csv"
_PER_PIXEL, _RATIO = "_per_pixel", "_ratio"


@dataclass(frozen=True)
class QualityLevel:
    """Definition of one mosaic at one resolution.

    Attributes:
        mosaic: ``<split>/<sample>``.
        level: ``original``, ``1/<factor>`` or ``<size> px``.
        size: Height and width in px.
        per_pixel: Criteria as means over pixels.
        ratio: To the original's.
    """

    mosaic: str
    level: str
    size: str
    per_pixel: Mapping[str, float]
    ratio: Mapping[str, float]


@dataclass(frozen=True)
class QualityTable:
    """Definition of the mosaics of a store.

    Attributes:
        name: Of the folder.
        filter: With which smaller levels were made.
        criteria: Names.
        levels: A row a mosaic and level.
    """

    name: str
    filter: str
    criteria: tuple[str, ...]
    levels: tuple[QualityLevel, ...]


def read_quality(path: Path) -> QualityTable:
    """Read a ``quality.csv``.

    Raises:
        ValueError: if it is empty or a value is no number.
        KeyError: if a column is missing.
    """
    rows = records(path)
    if not rows:
        raise ValueError("it has no rows")
    criteria = tuple(column.removesuffix(_PER_PIXEL) for column in rows[0] if column.endswith(_PER_PIXEL))
    levels = tuple(
        QualityLevel(
            row["mosaic"],
            row["level"],
            f"{row['height_px']} × {row['width_px']}",
            {name: number(row.get(name + _PER_PIXEL)) for name in criteria},
            {name: number(row.get(name + _RATIO)) for name in criteria},
        )
        for row in rows
    )
    return QualityTable(path.resolve().parent.name, rows[0]["filter"], criteria, levels)
