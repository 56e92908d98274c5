"""Rand scores of whole mosaics as metrics of torchmetrics."""

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.segmentation.cell_score import CellScore
from lightning_emseg.metrics.segmentation.rand_scores import ADAPTED_RAND, v_rand


class VRand(CellScore, MosaicMetric):
    """V-Rand of cells: see :func:`~.rand_scores.v_rand`, and :class:`~.cell_score.CellScore` for the columns."""

    name = "v_rand"
    score = staticmethod(v_rand)


class AdaptedRand(MosaicMetric):
    """ARAND of the cells as they are, with precision and recall: see :func:`~.rand_scores.adapted_rand`."""

    columns = ADAPTED_RAND.columns

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Error, precision, recall."""
        return ADAPTED_RAND.row(comparison)
