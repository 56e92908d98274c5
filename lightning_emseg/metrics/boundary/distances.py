"""Surface distances of whole mosaics as a metric of torchmetrics."""

from lightning_emseg.metrics.boundary.surface_scores import SURFACE_DISTANCES
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric


class SurfaceDistances(MosaicMetric):
    """ASSD and HD95 between the surfaces of true and predicted foreground of whole mosaics, in nm.

    See :func:`~.surface_scores.average_symmetric_surface_distance` and :func:`~.surface_scores.hausdorff95`. The border
    of the image counts as a surface where foreground touches it, as in MONAI; the border of an ignored area does not.
    Columns ``assd_nm`` and ``hausdorff95_nm``.

    Args:
        mosaics: Number of mosaics; a module sets it to that of its data.
    """

    columns = SURFACE_DISTANCES.columns

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """ASSD and HD95 in nm, 0 or more; infinite where one of truth and prediction is empty, NaN where both are.

        Args:
            comparison: Of ``(Y, X)`` or ``(Z, Y, X)`` px, whose pixel sizes make nm of them.
        """
        return SURFACE_DISTANCES.row(comparison)
