"""Skeleton recall and breaks of whole mosaics as a metric of torchmetrics."""

import math

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.breaks import skeleton_recall
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric


class SkeletonRecall(MosaicMetric):
    """Skeleton recall and precision, and the number of breaks, of whole mosaics; in planes only.

    See :func:`~.breaks.share_covered` and :func:`~.breaks.breaks`. The skeleton of the prediction is that of all of it,
    and counts where the truth is known.

    Args:
        tolerance_nm: How far beside a skeleton foreground may lie to cover it.
        shortest_break_nm: Breaks count when they are longer than this.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a length is negative or not finite.
    """

    def __init__(self, tolerance_nm: float, shortest_break_nm: float, mosaics: int = 1) -> None:
        for name, length in (("tolerance_nm", tolerance_nm), ("shortest_break_nm", shortest_break_nm)):
            if not 0 <= length < math.inf:
                raise UserError(f"SkeletonRecall: {name} must be 0 or more nanometers, got {length}")
        self.tolerance_nm, self.shortest_break_nm = tolerance_nm, shortest_break_nm
        self._score = skeleton_recall(tolerance_nm, shortest_break_nm)
        self.columns = self._score.columns
        super().__init__(mosaics)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Skeleton recall, skeleton precision, breaks, breaks a millimeter (NaN without a true skeleton).

        Raises:
            UserError: if the mosaic is a volume.
        """
        return self._score.row(comparison)
