"""Tables of a comparison that several metrics need, made once."""

from weakref import WeakKeyDictionary

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.segmentation.border_thinning import thin_borders
from lightning_emseg.metrics.segmentation.contingency import Contingency, contingency
from lightning_emseg.metrics.segmentation.over_thresholds import tables_over_levels

_TABLES: WeakKeyDictionary[Comparison, dict[bool, Contingency]] = WeakKeyDictionary()
_SWEEPS: WeakKeyDictionary[Comparison, dict[bool, tuple[Contingency, ...]]] = WeakKeyDictionary()


def table_of(comparison: Comparison, *, thinned: bool) -> Contingency:
    """Overlaps of the cells of truth and prediction, without background of the truth; kept as long as the comparison.

    Args:
        comparison: Pixels without truth count nowhere, but predicted cells may reach across them.
        thinned: Whether predicted borders are thinned first, see :func:`~.border_thinning.thin_borders`.
    """
    made = _TABLES.setdefault(comparison, {})
    if thinned not in made:
        cells = comparison.predicted_cells
        predicted = thin_borders(cells, comparison.threads) if thinned else cells
        made[thinned] = contingency(
            comparison.truth_cells, predicted, keep_truth_zero=False, threads=comparison.threads
        )
    return made[thinned]


def sweep_of(comparison: Comparison, *, thinned: bool) -> tuple[Contingency, ...]:
    """The same at each of ISBI 2012's thresholds, as many at a time as the comparison has threads."""
    made = _SWEEPS.setdefault(comparison, {})
    if thinned not in made:
        made[thinned] = tables_over_levels(
            comparison.truth_cells, comparison.probability, thinned=thinned, workers=comparison.threads
        )
    return made[thinned]
