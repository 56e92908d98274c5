"""Contingency tables of cells, at one threshold or many."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.mosaic_pair import MosaicPair, Segments, components
from lightning_emseg.metrics.segmentation.border_thinning import thin_borders
from lightning_emseg.metrics.segmentation.contingency import Contingency, contingency

ISBI_LEVELS = (255, 230, 205, 179, 154, 128, 103, 77, 52, 26, 1)
"""Quantised levels that ISBI 2012's thresholds stand for: its script (Fiji, "Segmentation evaluation after border
thinning") takes the *cell* probability 1 − q/255 as above 0, 0.1, …, 1, in double precision with single precision
data, so that levels on a threshold are cells, and the last threshold lies just below 1."""


@dataclass(frozen=True)
class ThresholdCurve:
    """A score by threshold.

    Attributes:
        levels: Quantised levels; foreground is what reaches them.
        f: Scores, NaN where there is none.
    """

    levels: tuple[int, ...]
    f: tuple[float, ...]

    @property
    def maximum(self) -> float:
        """The best score; NaN if there is none."""
        return max((value for value in self.f if not math.isnan(value)), default=math.nan)

    @property
    def best_level(self) -> int | None:
        """The first level with the best score; none if there is no score."""
        return None if math.isnan(self.maximum) else self.levels[self.f.index(self.maximum)]


def tables_over_levels(
    truth_cells: Segments,
    probability: NDArray[np.uint8],
    levels: Sequence[int] = ISBI_LEVELS,
    *,
    thinned: bool = True,
    workers: int = 2,
) -> tuple[Contingency, ...]:
    """Tables of a truth and of what each threshold makes of a prediction.

    Args:
        truth_cells: Segments of the truth ``(*S)``, 0 for background and where nothing is known.
        probability: Of foreground (membrane), quantised, ``uint8 (*S)``.
        levels: Foreground is what reaches them, 0–255.
        thinned: Whether predicted borders are thinned first.
        workers: Threads, each with a level of its own at a time and about 12 bytes a pixel.

    Returns:
        One table a level, without background of the truth.
    """

    def table(level: int) -> Contingency:
        cells = components(probability < level)
        predicted = thin_borders(cells, threads=1) if thinned else cells
        return contingency(truth_cells, predicted, keep_truth_zero=False, threads=1)

    with ThreadPoolExecutor(workers) as pool:
        return tuple(pool.map(table, levels))


def curve_of(
    tables: Sequence[Contingency],
    score: Callable[[Contingency], tuple[float, ...]],
    levels: Sequence[int] = ISBI_LEVELS,
) -> ThresholdCurve:
    """Score tables that were made at these levels, by the first number of a score."""
    return ThresholdCurve(tuple(levels), tuple(score(table)[0] for table in tables))


def mean_curve(curves: Sequence[ThresholdCurve]) -> ThresholdCurve:
    """Mean over sections at each threshold, whose maximum is the official score of a stack.

    Raises:
        ValueError: without curves, or with curves over different levels.
    """
    if len({curve.levels for curve in curves}) != 1:
        raise ValueError("the mean of curves needs one or more, all over the same levels")
    return ThresholdCurve(curves[0].levels, tuple(np.mean([curve.f for curve in curves], axis=0).tolist()))


def table_of(comparison: MosaicPair, *, thinned: bool) -> Contingency:
    """Overlaps of the cells of truth and prediction, without background of the truth; kept as long as the comparison.

    Args:
        comparison: Pixels without truth count nowhere, but predicted cells may reach across them.
        thinned: Whether predicted borders are thinned first, see :func:`~.border_thinning.thin_borders`.
    """
    made = comparison.kept.setdefault(table_of, {})
    if thinned not in made:
        cells = comparison.predicted_cells
        predicted = thin_borders(cells, comparison.threads) if thinned else cells
        made[thinned] = contingency(
            comparison.truth_cells, predicted, keep_truth_zero=False, threads=comparison.threads
        )
    table: Contingency = made[thinned]
    return table


def sweep_of(comparison: MosaicPair, *, thinned: bool) -> tuple[Contingency, ...]:
    """The same at each of ISBI 2012's thresholds, as many at a time as the comparison has threads."""
    made = comparison.kept.setdefault(sweep_of, {})
    if thinned not in made:
        made[thinned] = tables_over_levels(
            comparison.truth_cells, comparison.probability, thinned=thinned, workers=comparison.threads
        )
    tables: tuple[Contingency, ...] = made[thinned]
    return tables
