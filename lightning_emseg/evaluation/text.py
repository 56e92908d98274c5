"""Score tables for a terminal."""

import math
from collections.abc import Sequence

from lightning_emseg.core.tables import MeanSE, ScoreTable
from lightning_emseg.evaluation.compare import PairScores

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


_WIDTH = 6
"""Columns that stand beside each other."""
_MEAN = "mean ± SE"


def scores_text(scores: PairScores) -> str:
    """A row an image and the mean ± SE, in blocks of a few columns; then threshold, polarity and other notes."""
    table = scores.table
    blocks = [
        _pair_block(heading, columns[start : start + _WIDTH], table)
        for heading, columns in scores.headings.items()
        for start in range(0, len(columns), _WIDTH)
    ]
    lines = [threshold_text(table.threshold, table.criterion), *scores.notes]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _pair_block(heading: str, columns: Sequence[str], table: ScoreTable) -> str:
    summary = table.summary
    rows = [[heading, *columns]]
    rows += [[key, *(_number(row[column]) for column in columns)] for key, row in table.rows.items()]
    rows.append([_MEAN, *(_summary(summary[column]) for column in columns)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    """Four digits behind the point for shares, fewer for counts and lengths.

    >>> _number(0.5), _number(1234.5678), _number(float("nan"))
    ('0.5000', '1234.6', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def _summary(value: MeanSE) -> str:
    return _number(value.mean) + ("" if value.se is None else f" ± {_number(value.se)}")
