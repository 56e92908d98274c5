"""Counts of quantised probabilities by truth: all that pixel scores at every threshold need."""

import numpy as np
from numpy.typing import NDArray

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
