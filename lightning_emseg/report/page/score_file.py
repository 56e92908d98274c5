"""Scores of whole mosaics, from ``scores-<verb>.json``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_emseg.metrics.table import Summary, summarise
from lightning_emseg.report.page.reading import json_object, number, numbers

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

    def summary(self, column: str) -> Summary:
        """Mean ± SE over the mosaics that have the score."""
        return summarise(list(self.values(column).values()))


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
