"""What V-Rand and V-Info have in common as metrics: their columns, borders thinned or not, the best threshold."""

from abc import abstractmethod
from typing import ClassVar

from torchmetrics import Metric

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.segmentation.cell_rows import cell_score
from lightning_emseg.metrics.segmentation.contingency import Contingency
from lightning_emseg.metrics.segmentation.split_merge import SplitMerge


class CellScore(Metric):
    """A score of cells at the threshold of a comparison, and at the best one if wanted.

    Stands before :class:`~lightning_emseg.metrics.mosaic_metric.MosaicMetric` among the bases of a metric. Its columns
    are ``<name>``, ``<name>_split``, ``<name>_merge``, then ``<name>_max`` and ``<name>_max_threshold`` (0–1, of the
    foreground's probability). A 3D mosaic is scored as one volume; ISBI 2012 scores sections and averages them.

    Attributes:
        name: Begins the columns.
    """

    name: ClassVar[str]
    columns: tuple[str, ...]

    def __init__(self, thinned: bool = True, max_over_thresholds: bool = False, mosaics: int = 1) -> None:
        """Name the columns; arguments are told of here, as ``--help`` of a subclass looks nowhere else.

        Args:
            thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin
                with ``<name>_unthinned``.
            max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
            mosaics: Number of mosaics.
        """
        self.thinned, self.max_over_thresholds = thinned, max_over_thresholds
        self._mosaic_score = cell_score(self.name, self.score, thinned, max_over_thresholds)
        self.columns = self._mosaic_score.columns
        super().__init__(mosaics=mosaics)

    @staticmethod
    @abstractmethod
    def score(table: Contingency) -> SplitMerge:
        """The score of a table."""

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Score, split and merge parts, and the best over thresholds if wanted."""
        return self._mosaic_score.row(comparison)
