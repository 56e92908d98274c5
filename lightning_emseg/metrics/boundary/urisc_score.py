"""U-RISC's score of whole mosaics as a metric of torchmetrics."""

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.planes import check_is_plane
from lightning_emseg.metrics.boundary.urisc import urisc_binary_score
from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_metric import MosaicMetric


class UriscF1(MosaicMetric):
    """U-RISC's score with a binary truth, of whole mosaics: see :func:`~.urisc.urisc_binary_score`; in planes only.

    A store's labels are binary, so this is not the official score of grey truths, which ``emseg score --official
    urisc`` gives.

    Args:
        bound_pix: Radius in px of the disk that grows both masks; 0 in the competition.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if the radius is negative.
    """

    columns = ("urisc_binary_f1", "urisc_binary_precision", "urisc_binary_recall")

    def __init__(self, bound_pix: int = 0, mosaics: int = 1) -> None:
        if bound_pix < 0:
            raise UserError(f"UriscF1: bound_pix must be 0 or more pixels, got {bound_pix}")
        self.bound_pix = bound_pix
        super().__init__(mosaics)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """F1, precision and recall.

        Raises:
            UserError: if the mosaic is a volume.
        """
        check_is_plane(comparison, "UriscF1", "scores")
        found = urisc_binary_score(comparison.truth, comparison.predicted, self.bound_pix)
        return found.f1, found.precision, found.recall
