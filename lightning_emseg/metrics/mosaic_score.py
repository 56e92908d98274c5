"""Numbers of a whole mosaic as functions without state, under the columns of a score table."""

from collections.abc import Callable
from dataclasses import dataclass

from lightning_emseg.metrics.comparison import Comparison


@dataclass(frozen=True)
class MosaicScore:
    """Named numbers of one whole mosaic; a :class:`~.mosaic_metric.MosaicMetric` gathers them over ranks.

    Attributes:
        columns: Names of the numbers.
        row: Function of a comparison; returns the numbers in the order of ``columns``, NaN for those that do not exist.
        planes_only: Whether volumes have no such numbers.
    """

    columns: tuple[str, ...]
    row: Callable[[Comparison], tuple[float, ...]]
    planes_only: bool = False

    def named(self, comparison: Comparison) -> dict[str, float]:
        """Return the numbers of one mosaic by column."""
        return dict(zip(self.columns, self.row(comparison), strict=True))
