"""Table of scores: a row a mosaic, then mean ± SE over mosaics, as files and as text."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightning_emseg.core.tables import MeanSE, align, format_number, mean_se, write_csv

Row = dict[str, float]
COUNTS = ("tp", "fp", "fn", "tn")
_FIRST = ("f1", "precision", "recall", "iou", "average_precision", "roc_auc")
_BLOCK = 6
"""Columns that stand beside each other in a terminal."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of whole mosaics.

    Attributes:
        label: Name of the foreground class; ``mean`` for the mean over several.
        threshold: Probability from which on a pixel counts as foreground, 0–1; NaN where the most probable class
            counts.
        criterion: How the threshold was chosen, and on what.
        rows: Scores by mosaic and column; NaN where a score does not exist.
        curves: Means over mosaics by threshold level 0–255; empty where nothing was cut at a threshold.
        partial: Mosaics that were seen in part and are not scored: number of pixels seen and wanted.
    """

    label: str
    threshold: float
    criterion: str
    rows: Mapping[str, Row]
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    partial: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(dict.fromkeys(column for row in self.rows.values() for column in row))

    @property
    def main_columns(self) -> tuple[str, ...]:
        """Columns that people look at first: the foreground's, the background's F1, and those of further metrics."""
        first = [f"{self.label}_{score}" for score in _FIRST] + ["background_f1"]
        others = [
            column
            for column in self.columns
            if column not in (*first, *COUNTS) and column.removesuffix("_at_0.5") not in first
            if not column.startswith("background_")
        ]
        return tuple(column for column in (*first, *others) if column in self.columns)

    def values(self, column: str) -> dict[str, float]:
        """Return a column by mosaic; NaN where a mosaic lacks it."""
        return {key: row.get(column, math.nan) for key, row in self.rows.items()}

    @property
    def summary(self) -> dict[str, MeanSE]:
        """Mean ± SE of every column, over the mosaics that have the score."""
        return {column: mean_se(self.values(column).values()) for column in self.columns}

    def to_json(self) -> dict[str, object]:
        """Return the content of ``scores-<verb>.json``; what does not exist or is infinite becomes ``null`` there."""
        summary = self.summary
        return {
            "label": self.label,
            "threshold": self.threshold,
            "criterion": self.criterion,
            "mean": {name: value.mean for name, value in summary.items()},
            "se": {name: value.se for name, value in summary.items()},
            "mosaics": dict(self.rows),
            "f1_by_threshold": {"threshold": [level / 255 for level in range(256)], **self.curves},
            "partial": {key: {"pixels_seen": seen, "pixels": total} for key, (seen, total) in self.partial.items()},
        }

    @classmethod
    def read(cls, path: Path) -> "ScoreTable":
        """Read a ``scores-<verb>.json``; ``null`` becomes NaN.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is damaged, or a number is none.
            LookupError, TypeError, AttributeError: if a part is missing or of another kind.
        """
        found = json.loads(path.read_text())
        curves = {name: values for name, values in found["f1_by_threshold"].items() if name != "threshold"}
        if any(len(values) not in (0, 256) for values in curves.values()):
            raise ValueError("the parts of f1_by_threshold are of different lengths")
        return cls(
            str(found["label"]),
            _number(found["threshold"]),
            str(found["criterion"]),
            {key: {name: _number(value) for name, value in row.items()} for key, row in found["mosaics"].items()},
            {name: [_number(value) for value in values] for name, values in curves.items()},
            {key: (each["pixels_seen"], each["pixels"]) for key, each in found.get("partial", {}).items()},
        )

    def write_csv(self, path: Path) -> None:
        """Write a row a mosaic in full precision."""
        write_csv(path, [{"mosaic": key, "threshold": self.threshold, **row} for key, row in self.rows.items()])

    def text(self, notes: Sequence[str] = ()) -> str:
        """Format the main columns for a terminal: a row a mosaic and mean ± SE, then threshold and notes."""
        classes = {column.removesuffix("_iou") for column in self.columns if column.endswith("_iou")}
        classes = {name for name in classes if {f"{name}_f1", f"{name}_recall"} <= set(self.columns)}
        groups: dict[str, list[str]] = {self.label: []}
        for column in self.main_columns:
            if column == "background_f1":
                groups[self.label].append(column)
            elif column != f"{self.label}_roc_auc":
                # "axon" also begins the columns of "axon_terminal".
                name = max((name for name in classes if column.startswith(f"{name}_")), key=len, default="metrics")
                groups.setdefault(name, []).append(column)
        blocks = [
            self._block(name, columns[start : start + _BLOCK])
            for name, columns in groups.items()
            for start in range(0, len(columns), _BLOCK)
        ]
        lines = [f"{key}: not scored, {seen} of {total} pixels seen" for key, (seen, total) in self.partial.items()]
        return "\n\n".join([*blocks, "\n".join([*lines, threshold_text(self.threshold, self.criterion), *notes])])

    def _block(self, heading: str, columns: Sequence[str]) -> str:
        means = [mean_se(self.values(column).values()) for column in columns]
        cells = [
            format_number(each.mean) + ("" if each.se is None else f" ± {format_number(each.se)}") for each in means
        ]
        rows = [[key, *(format_number(row[name]) for name in columns)] for key, row in self.rows.items()]
        return align([[heading, *columns], *rows, ["mean ± SE", *cells]])


def threshold_text(threshold: float, criterion: str) -> str:
    """Say what made decisions of probabilities; ``threshold`` is NaN where no threshold did.

    >>> threshold_text(0.5, "fixed")
    'threshold 0.500 (fixed)'
    """
    return criterion if math.isnan(threshold) else f"threshold {threshold:.3f} ({criterion})"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
