"""Counts of quantised probabilities by truth: all that pixel scores at every threshold need."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from data_modules.batch import IGNORE

LEVELS = 256
"""Number of quantised probability levels; level q stands for q / 255."""

Counts = NDArray[np.int64]


def truth_histogram(probability: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Counts:
    """Count pixels by truth and quantised probability.

    Args:
        probability: ``uint8``, any shape; 255 is certain foreground.
        truth: ``uint8`` of the same shape: 0 background, 1 foreground, 255 ignored.

    Returns:
        ``int64 (2, 256)``: row 0 background pixels, row 1 foreground pixels.

    Raises:
        ValueError: if the shapes differ or the truth has other values.

    >>> truth_histogram(np.array([0, 255, 255], np.uint8), np.array([0, 1, 255], np.uint8)).sum(axis=1)
    array([1, 1])
    """
    if probability.shape != truth.shape:
        raise ValueError(f"probability {probability.shape} and truth {truth.shape} differ in shape")
    joint = np.bincount((truth.astype(np.uint16) << 8 | probability).ravel(), minlength=LEVELS * LEVELS)
    table: Counts = joint.reshape(LEVELS, LEVELS).astype(np.int64)
    if table[2:IGNORE].any():
        raise ValueError("the truth has values other than 0, 1 and 255")
    return table[:2]


class MosaicHistograms(Metric):
    """One :func:`truth_histogram` for every mosaic, summed over ranks.

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
