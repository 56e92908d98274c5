"""What a module asks of its outputs, whatever they stand for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_emseg.inference.stitching import StitchedRows
from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.table import Row, ScoreTable
from lightning_emseg.metrics.threshold import Criterion

Partial = Mapping[str, tuple[int, int]]
"""Mosaics that were seen in part: pixels seen and wanted."""


class Outputs(ABC):
    """How logits become probabilities and decisions, and how these are counted and scored.

    Attributes:
        classes: Names, the background first; empty for one foreground.
    """

    classes: tuple[str, ...] = ()

    @abstractmethod
    def default_loss(self) -> nn.Module:
        """The loss where none is configured."""

    @abstractmethod
    def probability(self, logits: Tensor) -> Tensor:
        """Probabilities, 0–1, of logits ``(B, K, *S)``; NaN where a logit is not finite."""

    @abstractmethod
    def counted(self, probability: Tensor) -> Tensor:
        """What is counted of probabilities: ``uint8 (B, *S)``."""

    @abstractmethod
    def counted_rows(self, rows: StitchedRows) -> Tensor:
        """What is counted of stitched rows, and kept of them where metrics want whole maps: ``uint8``."""

    @abstractmethod
    def counts(self, mosaics: int) -> Metric:
        """Counts of as many mosaics; ``update(mosaic, counted, truth)``, ``compute() -> (counts, pixels seen)``."""

    @abstractmethod
    def choose_level(self, counts: Counts, criterion: Criterion) -> int | None:
        """Quantised threshold that the counts suggest, or ``None`` where outputs need none."""

    @abstractmethod
    def tile_scores(self, counts: Counts, level: int, loss: float) -> dict[str, float]:
        """``val_tiles/*`` of the counts of one mosaic, or of several added up."""

    @abstractmethod
    def table(
        self, keys: Sequence[str], counts: Counts, label: str, level: int, criterion: str, partial: Partial
    ) -> ScoreTable:
        """Scores of whole mosaics, whose counts are ``counts``."""

    @abstractmethod
    def check_metrics(self, metrics: Sequence[MosaicMetric]) -> None:
        """Refuse metrics of whole mosaics that these outputs cannot give.

        Raises:
            UserError: naming the metric.
        """

    @abstractmethod
    def logged(self, metrics: Sequence[MosaicMetric]) -> set[str]:
        """Columns of score tables that are logged beside the pixel scores of the foreground, without its name."""

    @abstractmethod
    def measure(
        self,
        metrics: Sequence[MosaicMetric],
        truth: NDArray[np.uint8],
        found: NDArray[np.uint8],
        level: int,
        pixel_size_nm: Sequence[float],
    ) -> Row:
        """Columns of metrics of one whole mosaic.

        Args:
            metrics: One or more.
            truth: Mask ``uint8 (*S)``; 255 is ignored.
            found: ``uint8 (*S)``, as :meth:`counted_rows` gives it.
            level: Quantised threshold, where there is one.
            pixel_size_nm: One value an axis.
        """
