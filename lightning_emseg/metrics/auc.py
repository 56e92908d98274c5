"""Area under the ROC curve from histograms of quantised probabilities."""

import numpy as np

from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.pixel import Values


def roc_auc(counts: Counts) -> Values:
    """Area under the curve of true against false positive rate, over all thresholds.

    This is the probability that a foreground pixel has a higher quantised probability than a background pixel, ties
    counting half: the trapezoids between neighbouring thresholds, and so exact for the quantised map. Histograms of
    parts add up, so that no mosaic needs to be held whole.

    Source: Hanley and McNeil, Radiology 143 (1982); as scikit-learn's ``roc_auc_score``.

    Args:
        counts: ``int64 (…, 2, 256)`` of :func:`~lightning_emseg.metrics.histogram.truth_histogram`.

    Returns:
        ``(…,)``, 0–1; NaN where there is no foreground or no background.

    >>> from lightning_emseg.metrics.histogram import truth_histogram
    >>> roc_auc(truth_histogram(np.array([9, 9, 200], np.uint8), np.array([0, 1, 1], np.uint8))).item()  # (½ + 1) / 2
    0.75
    """
    # Products of two numbers of pixels may leave int64.
    background, foreground = (np.asarray(counts[..., row, :], np.float64) for row in (0, 1))
    below = background.cumsum(axis=-1) - background / 2
    pairs = background.sum(axis=-1) * foreground.sum(axis=-1)
    result: Values = np.full(np.shape(pairs), np.nan)
    np.divide((foreground * below).sum(axis=-1), pairs, out=result, where=pairs > 0)
    return result
