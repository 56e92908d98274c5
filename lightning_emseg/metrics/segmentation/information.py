"""Information scores of whole mosaics as metrics of torchmetrics."""

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.segmentation.cell_score import CellScore
from lightning_emseg.metrics.segmentation.information_scores import VARIATION_OF_INFORMATION, v_info


class VInfo(CellScore, MosaicMetric):
    """V-Info of cells: see :func:`~.information_scores.v_info`, and :class:`~.cell_score.CellScore` for columns."""

    name = "v_info"
    score = staticmethod(v_info)


class VariationOfInformation(MosaicMetric):
    """VOI of the cells, in bits, with its parts: see :func:`~.information_scores.variation_of_information`."""

    columns = VARIATION_OF_INFORMATION.columns

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Sum, split and merge parts."""
        return VARIATION_OF_INFORMATION.row(comparison)
