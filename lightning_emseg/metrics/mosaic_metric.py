"""What metrics of whole mosaics have in common: a row of numbers a mosaic, gathered over ranks."""

from abc import abstractmethod

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_emseg.metrics.comparison import Comparison


class MosaicMetric(Metric):
    """A metric that needs a whole mosaic at once, as segmentations and distances do.

    One rank owns a mosaic and computes its row. As a metric of torchmetrics, rows of all ranks are summed, each being
    zero elsewhere, so that no list of unequal length is gathered. Named under a module's ``metrics``, its columns are
    logged as ``val/<column>`` and ``test/<column>`` and written to the score files.

    Args:
        mosaics: Number of mosaics that :meth:`update` is called for, over all ranks.

    Attributes:
        columns: Names of the numbers.
    """

    full_state_update = False
    columns: tuple[str, ...]
    rows: Tensor
    seen: Tensor

    def __init__(self, mosaics: int = 1) -> None:
        super().__init__()
        rows = torch.zeros(mosaics, len(self.columns), dtype=torch.float64)
        self.add_state("rows", rows, dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, comparison: Comparison, mosaic: int = 0) -> None:
        """Measure a mosaic.

        Args:
            comparison: The whole of it.
            mosaic: Its number.
        """
        self.rows[mosaic] = torch.tensor(self.row(comparison), dtype=torch.float64)
        self.seen[mosaic] = 1

    def compute(self) -> Tensor:
        """Rows ``float64 (mosaics, columns)``; NaN for mosaics that nobody measured."""
        return torch.where(self.seen[:, None] > 0, self.rows, torch.nan)

    def named(self, comparison: Comparison) -> dict[str, float]:
        """The numbers of one mosaic by column."""
        return dict(zip(self.columns, self.row(comparison), strict=True))

    @abstractmethod
    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """The numbers of one mosaic, in the order of ``columns``; NaN for those that do not exist."""
