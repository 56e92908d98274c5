"""Columns that V-Rand and V-Info have in common."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.segmentation.contingency import Contingency
from lightning_emseg.metrics.segmentation.over_thresholds import curve_of
from lightning_emseg.metrics.segmentation.split_merge import SplitMerge
from lightning_emseg.metrics.segmentation.tables import sweep_of, table_of


@dataclass(frozen=True)
class ScoreColumns:
    """A score of cells at the threshold of a comparison, and at the best one if wanted.

    Attributes:
        name: Begins the columns: ``<name>``, ``<name>_split``, ``<name>_merge``, then ``<name>_max`` and
            ``<name>_max_threshold`` (0–1, of the foreground's probability).
        score: Of a table.
        thinned: Whether predicted borders are thinned first; if not, columns begin with ``<name>_unthinned``.
        max_over_thresholds: Whether the best of ISBI 2012's thresholds is looked for too.
    """

    name: str
    score: Callable[[Contingency], SplitMerge]
    thinned: bool
    max_over_thresholds: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        name = self.name if self.thinned else f"{self.name}_unthinned"
        names = (name, f"{name}_split", f"{name}_merge")
        return (*names, f"{name}_max", f"{name}_max_threshold") if self.max_over_thresholds else names

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Their values."""
        found = self.score(table_of(comparison, thinned=self.thinned))
        row = (found.f, found.split, found.merge)
        if not self.max_over_thresholds:
            return row
        curve = curve_of(sweep_of(comparison, thinned=self.thinned), self.score)
        return (*row, curve.maximum, math.nan if curve.best_level is None else curve.best_level / 255)
