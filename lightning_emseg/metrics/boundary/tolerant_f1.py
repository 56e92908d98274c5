"""F1 with a tolerance, of whole mosaics, as a metric of torchmetrics."""

import math

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.tolerance import tolerant_f1
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric


class TolerantF1(MosaicMetric):
    """F1, precision and recall with a tolerance, of whole mosaics; see :func:`~.tolerance.tolerant_scores`.

    For each tolerance t the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and ``recall_within_<t>nm``.

    Args:
        tolerance_nm: One or several tolerances, in nm.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a tolerance is negative or not finite, or given twice.
    """

    def __init__(self, tolerance_nm: list[float] | float, mosaics: int = 1) -> None:
        self.tolerances_nm = tuple(tolerance_nm) if isinstance(tolerance_nm, list) else (tolerance_nm,)
        if not all(0 <= tolerance < math.inf for tolerance in self.tolerances_nm):
            raise UserError(f"TolerantF1: tolerance_nm must be 0 or more nanometers, got {tolerance_nm}")
        self._score = tolerant_f1(self.tolerances_nm)
        self.columns = self._score.columns
        if len(set(self.columns)) < len(self.columns):
            raise UserError(f"TolerantF1: tolerance_nm names a tolerance twice, got {tolerance_nm}; give it once")
        super().__init__(mosaics)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """F1, precision and recall at the first tolerance, at the next, and so on."""
        return self._score.row(comparison)
