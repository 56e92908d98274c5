"""The table of scores: one row a mosaic, then mean ± SE over mosaics."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lightning_emseg.metrics.pixels import (
    Counts,
    average_precision,
    confusion_at,
    confusion_by_threshold,
    level_of,
    roc_auc,
)

Row = dict[str, float]
SCORES = ("f1", "precision", "recall", "iou")


@dataclass(frozen=True)
class MeanSE:
    """Mean over mosaics and its standard error (ddof 1); no error for a single mosaic."""

    mean: float
    se: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.se is None else f" ± {self.se:.4f}")


def mean_se(values: Sequence[float]) -> MeanSE:
    """Mean and standard error of the values that are numbers; one that is infinite makes the mean so, without an error.

    >>> str(summarise([0.5, 0.7]))
    '0.6000 ± 0.1000'
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return MeanSE(math.nan, None, 0)
    finite = len(known) > 1 and all(map(math.isfinite, known))
    error = float(np.std(known, ddof=1) / math.sqrt(len(known))) if finite else None
    return MeanSE(float(np.mean(known)), error, len(known))


@dataclass(frozen=True)
class ScoreTable:
    """Scores of whole mosaics.

    Attributes:
        label: Name of the foreground class; ``mean`` for the mean over several.
        threshold: Probability from which on a pixel counts as foreground, 0–1; NaN where the most probable class
            counts.
        criterion: How the threshold was chosen, and on what.
        rows: Scores by mosaic.
        curves: Means over mosaics by threshold level 0–255, from :func:`mean_curves`.
        partial: Mosaics that were seen in part and are not scored: number of pixels seen and wanted.
    """

    label: str
    threshold: float
    criterion: str
    rows: Mapping[str, Row]
    curves: Mapping[str, Sequence[float]]
    partial: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, MeanSE]:
        """Mean ± SE of every column."""
        columns = next(iter(self.rows.values()), {})
        return {column: mean_se([row[column] for row in self.rows.values()]) for column in columns}

    def to_json(self) -> dict[str, object]:
        """JSON-ready form in full precision; what does not exist or is infinite is ``null``, as JSON has neither."""
        return {
            "label": self.label,
            "threshold": _or_none(self.threshold),
            "criterion": self.criterion,
            "mean": {name: _or_none(value.mean) for name, value in self.summary.items()},
            "se": {name: value.se for name, value in self.summary.items()},
            "mosaics": {key: {name: _or_none(value) for name, value in row.items()} for key, row in self.rows.items()},
            "f1_by_threshold": {"threshold": [level / 255 for level in range(256)], **self.curves},
            "partial": {key: {"pixels_seen": seen, "pixels": total} for key, (seen, total) in self.partial.items()},
        }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def score_rows(keys: Sequence[str], counts: Counts, label: str, level: int) -> dict[str, Row]:
    """Scores of each mosaic for foreground and background, at ``level`` and at 0.5.

    Args:
        keys: Names of the mosaics.
        counts: ``int64 (mosaics, 2, 256)``.
        label: Name of the foreground class; columns are ``<label>_f1``, ``background_f1``, ``<label>_f1_at_0.5``, ….
        level: Chosen threshold as a quantised level.
    """
    precision, auc = average_precision(counts), roc_auc(counts)
    rows = {}
    for index, key in enumerate(keys):
        row: Row = {}
        for suffix, at in (("", level), ("_at_0.5", level_of(0.5))):
            found = confusion_at(counts[index], at)
            for name, confusion in ((label, found), ("background", found.of_background())):
                row |= {f"{name}_{score}{suffix}": float(getattr(confusion, score)) for score in SCORES}
        row[f"{label}_average_precision"] = float(precision[index])
        row[f"{label}_roc_auc"] = float(auc[index])
        found = confusion_at(counts[index], level)
        row |= {name: int(getattr(found, name)) for name in ("tp", "fp", "fn", "tn")}
        rows[key] = row
    return rows


def mean_curves(counts: Counts) -> dict[str, list[float]]:
    """Means over mosaics of F1, precision and recall at each of the 256 threshold levels; empty without mosaics.

    Args:
        counts: ``int64 (mosaics, 2, 256)``.

    Returns:
        ``mean_f1``, ``mean_precision`` and ``mean_recall``; that of F1 is not the F1 of the other two.
    """
    found = confusion_by_threshold(counts)
    values = {"mean_f1": found.f1, "mean_precision": found.precision, "mean_recall": found.recall}
    return {name: each.mean(axis=0).tolist() if len(counts) else [] for name, each in values.items()}


def write_csv(path: Path, table: ScoreTable) -> None:
    """Write a row a mosaic in full precision."""
    columns = list(next(iter(table.rows.values())))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mosaic", "threshold", *columns])
        for key, row in table.rows.items():
            writer.writerow([key, repr(table.threshold), *(repr(row[column]) for column in columns)])
