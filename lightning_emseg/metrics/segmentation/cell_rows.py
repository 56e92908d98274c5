"""V-Rand and V-Info of whole mosaics: their columns, borders thinned or not, the best threshold."""

import math
from collections.abc import Callable
from functools import partial

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.segmentation.contingency import Contingency
from lightning_emseg.metrics.segmentation.over_thresholds import curve_of
from lightning_emseg.metrics.segmentation.split_merge import SplitMerge
from lightning_emseg.metrics.segmentation.tables import sweep_of, table_of

CellFunction = Callable[[Contingency], SplitMerge]


def cell_score(name: str, score: CellFunction, thinned: bool = True, max_over_thresholds: bool = False) -> MosaicScore:
    """Score cells at the threshold of a comparison, and at the best one if wanted.

    A 3D mosaic is scored as one volume; ISBI 2012 scores sections and averages them.

    Args:
        name: Beginning of the columns ``<name>``, ``<name>_split``, ``<name>_merge``, ``<name>_max`` and
            ``<name>_max_threshold`` (0–1, of the foreground's probability).
        score: Score of a table.
        thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin with
            ``<name>_unthinned``.
        max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
    """
    name = name if thinned else f"{name}_unthinned"
    at_best = (f"{name}_max", f"{name}_max_threshold") if max_over_thresholds else ()
    row = partial(_row, score=score, thinned=thinned, max_over_thresholds=max_over_thresholds)
    return MosaicScore((name, f"{name}_split", f"{name}_merge", *at_best), row)


def _row(comparison: Comparison, score: CellFunction, thinned: bool, max_over_thresholds: bool) -> tuple[float, ...]:
    found = score(table_of(comparison, thinned=thinned))
    row = (found.f, found.split, found.merge)
    if not max_over_thresholds:
        return row
    curve = curve_of(sweep_of(comparison, thinned=thinned), score)
    return (*row, curve.maximum, math.nan if curve.best_level is None else curve.best_level / 255)
