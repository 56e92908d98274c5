"""Score tables for a terminal."""

import math
from collections.abc import Sequence

from lightning_emseg.metrics.table import ScoreTable

_SCORES = ("f1", "precision", "recall", "iou")
_FURTHER = ("average_precision", "roc_auc")
_COUNTS = ("tp", "fp", "fn", "tn")


def score_text(table: ScoreTable) -> str:
    """The most important columns, a row a mosaic and the mean ± SE; below them those of metrics of whole mosaics."""
    names = [f"{table.label}_{score}" for score in _SCORES] + ["background_f1"]
    columns = next(iter(table.rows.values()), {})
    pixels = {f"{table.label}_{score}" for score in (*_SCORES, *_FURTHER)}
    others = [
        name
        for name in columns
        if name.removesuffix("_at_0.5") not in pixels and not name.startswith("background_") and name not in _COUNTS
    ]
    lines = _block(table, names)
    for first in range(0, len(others), len(names)):
        lines += ["", *_block(table, others[first : first + len(names)])]
    lines += [f"{key}: not scored, {seen} of {total} pixels seen" for key, (seen, total) in table.partial.items()]
    return "\n".join([*lines, threshold_text(table.threshold, table.criterion)])


def threshold_text(threshold: float, criterion: str) -> str:
    """What made decisions of probabilities; ``threshold`` is NaN where none did.

    >>> threshold_text(0.5, "fixed")
    'threshold 0.500 (fixed)'
    """
    return criterion if math.isnan(threshold) else f"threshold {threshold:.3f} ({criterion})"


def _block(table: ScoreTable, names: Sequence[str]) -> list[str]:
    width = max([len("mean ± SE"), *(len(key) for key in table.rows)])
    lines = [" ".join([" " * width, *(f"{name:>20}" for name in names)])]
    lines += [
        " ".join([key.ljust(width), *(f"{row[name]:>20.4f}" for name in names)]) for key, row in table.rows.items()
    ]
    if table.rows:
        summary = table.summary
        lines.append(" ".join(["mean ± SE".ljust(width), *(f"{summary[name]!s:>20}" for name in names)]))
    return lines
