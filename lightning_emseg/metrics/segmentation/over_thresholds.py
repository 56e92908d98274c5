"""Segmentation scores at many thresholds, and the best of them, as ISBI 2012 ranks."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.comparison import Segments, components
from lightning_emseg.metrics.segmentation.border_thinning import thin_borders
from lightning_emseg.metrics.segmentation.contingency import Contingency, contingency
from lightning_emseg.metrics.segmentation.split_merge import SplitMerge

ISBI_LEVELS = (255, 230, 205, 179, 154, 128, 103, 77, 52, 26, 1)
"""Quantised levels that ISBI 2012's thresholds stand for: its script (Fiji, "Segmentation evaluation after border
thinning") takes the *cell* probability 1 − q/255 as above 0, 0.1, …, 1, in double precision with single precision
data, so that levels on a threshold are cells, and the last threshold lies just below 1."""


@dataclass(frozen=True)
class Curve:
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
    tables: Sequence[Contingency], score: Callable[[Contingency], SplitMerge], levels: Sequence[int] = ISBI_LEVELS
) -> Curve:
    """Scores of tables that were made at these levels."""
    return Curve(tuple(levels), tuple(score(table).f for table in tables))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over sections at each threshold, whose maximum is the official score of a stack.

    Raises:
        ValueError: without curves, or with curves over different levels.
    """
    if len({curve.levels for curve in curves}) != 1:
        raise ValueError("the mean of curves needs one or more, all over the same levels")
    return Curve(curves[0].levels, tuple(np.mean([curve.f for curve in curves], axis=0).tolist()))
