"""Distances of synaptic clefts as a metric of torchmetrics."""

from lightning_emseg.metrics.boundary.cleft_scores import CLEFT_DISTANCES
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric


class CleftDistances(MosaicMetric):
    """ADGT, ADF and CREMI score of whole mosaics, in nm on the anisotropic grid; lower is better.

    ADGT is the mean distance of predicted cleft voxels to the nearest true one (false positives), ADF that of true
    cleft voxels to the nearest predicted one (false negatives), and the CREMI score their mean. Common voxels count
    with 0. Ignored voxels belong to neither. Columns ``adgt_nm``, ``adf_nm`` and ``cremi_score_nm``.

    Where the prediction is empty there is no ADGT (NaN), ADF is infinite, and so is the score, so that a network that
    predicts nothing never comes out ahead; where the truth is empty, ADF is NaN, ADGT infinite, and so is the score.
    Where both are, all three are NaN and the mosaic drops out of the mean. The challenge's own code defines none of
    this: it fails at the maximum over no voxels, and before that measures to a voxel that scipy imagines outside of the
    volume.

    Source: Liu and Ji 2021, eq. 11; the means of ``acc_false_positives`` and ``acc_false_negatives`` of
    ``cremi.evaluation.Clefts`` in the challenge's cremi_python.

    Args:
        mosaics: Number of mosaics; a module sets it to that of its data.
    """

    columns = CLEFT_DISTANCES.columns

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """ADGT, ADF and CREMI score in nm, 0 or more; see the class for empty masks.

        Args:
            comparison: Of ``(Y, X)`` or ``(Z, Y, X)`` px, whose pixel sizes make nm of them.
        """
        return CLEFT_DISTANCES.row(comparison)
