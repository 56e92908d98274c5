"""Scores for a terminal."""

import math
from collections.abc import Sequence

from lightning_emseg.metrics.table import ScoreTable, Summary
from lightning_emseg.report.text import threshold_text
from lightning_emseg.scoring.compare import Scores

_WIDTH = 6
"""Columns that stand beside each other."""
_MEAN = "mean ± SE"


def scores_text(scores: Scores) -> str:
    """A row an image and the mean ± SE, in blocks of a few columns; then threshold, polarity and other notes."""
    table = scores.table
    blocks = [
        _block(heading, columns[start : start + _WIDTH], table)
        for heading, columns in scores.headings.items()
        for start in range(0, len(columns), _WIDTH)
    ]
    lines = [threshold_text(table.threshold, table.criterion), *scores.notes]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _block(heading: str, columns: Sequence[str], table: ScoreTable) -> str:
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


def _summary(value: Summary) -> str:
    return _number(value.mean) + ("" if value.se is None else f" ± {_number(value.se)}")
