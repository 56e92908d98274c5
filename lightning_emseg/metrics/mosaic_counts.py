"""Counts of pixels by mosaic, summed over ranks, as metrics of torchmetrics."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_emseg.metrics.confusion import class_confusion
from lightning_emseg.metrics.histogram import LEVELS, Counts, truth_histogram


class MosaicHistograms(Metric):
    """One :func:`~.histogram.truth_histogram` for every mosaic, summed over ranks.

    Args:
        mosaics: Number of mosaics.
    """

    full_state_update = False
    counts: Tensor
    seen: Tensor

    def __init__(self, mosaics: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(mosaics, 2, LEVELS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mosaic: int, probability: Tensor, truth: Tensor) -> None:
        """Add pixels of one mosaic, each of which must come once.

        Args:
            mosaic: Position of the mosaic.
            probability: ``uint8``, any shape.
            truth: ``uint8`` of the same shape: 0, 1, or 255 for ignored.
        """
        counts = truth_histogram(probability.cpu().numpy(), truth.cpu().numpy())
        self.counts[mosaic] += torch.from_numpy(counts).to(self.counts.device)
        self.seen[mosaic] += probability.numel()

    def compute(self) -> tuple[Counts, Counts]:
        """Histograms ``int64 (mosaics, 2, 256)`` and number of pixels seen, ignored ones included, ``(mosaics,)``."""
        return self.counts.cpu().numpy(), self.seen.cpu().numpy()


class MosaicConfusions(Metric):
    """One :func:`~.confusion.class_confusion` for every mosaic, summed over ranks.

    Args:
        mosaics: Number of mosaics.
        classes: Number of classes.
    """

    full_state_update = False
    counts: Tensor
    seen: Tensor

    def __init__(self, mosaics: int, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self.add_state("counts", torch.zeros(mosaics, classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("seen", torch.zeros(mosaics, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, mosaic: int, predicted: Tensor, truth: Tensor) -> None:
        """Add pixels of one mosaic, each of which must come once.

        Args:
            mosaic: Position of the mosaic.
            predicted: ``uint8``, any shape, positions of classes.
            truth: ``uint8`` of the same shape; 255 is ignored.
        """
        counts = class_confusion(predicted.cpu().numpy(), truth.cpu().numpy(), self._classes)
        self.counts[mosaic] += torch.from_numpy(counts).to(self.counts.device)
        self.seen[mosaic] += predicted.numel()

    def compute(self) -> tuple[Counts, Counts]:
        """Confusions ``int64 (mosaics, C, C)`` and pixels seen, ignored ones included, ``(mosaics,)``."""
        return self.counts.cpu().numpy(), self.seen.cpu().numpy()
