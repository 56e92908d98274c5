"""Precision, recall, F1, IoU and average precision from histograms of quantised probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.histogram import Counts

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Numbers of pixels; scalars or arrays of one shape, e.g. one value a threshold.

    Attributes:
        tp: Foreground predicted as foreground.
        fp: Background predicted as foreground (incorrect membrane).
        fn: Foreground predicted as background (broken membrane).
        tn: Background predicted as background.
    """

    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    def of_background(self) -> "Confusion":
        """The same with background as the positive class."""
        return Confusion(self.tn, self.fn, self.fp, self.tp)

    @property
    def precision(self) -> Values:
        """TP / (TP + FP); 1 where nothing is predicted, as U-RISC's published script has it."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> Values:
        """TP / (TP + FN); 1 where there is nothing to find."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> Values:
        """Harmonic mean of precision and recall; 1 where truth and prediction are both empty."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def iou(self) -> Values:
        """TP / (TP + FP + FN); 1 where truth and prediction are both empty."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)


def _ratio(part: Counts, whole: Counts) -> Values:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def confusion_by_threshold(counts: Counts) -> Confusion:
    """Confusion at every threshold.

    Args:
        counts: ``int64 (…, 2, 256)`` of :func:`~lightning_emseg.metrics.histogram.truth_histogram`.

    Returns:
        Arrays ``(…, 256)``: entry t is for "foreground where the quantised probability is at least t".
    """
    at_least = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
    total = counts.sum(axis=-1, keepdims=True)
    fp, tp = at_least[..., 0, :], at_least[..., 1, :]
    return Confusion(tp, fp, total[..., 1, :] - tp, total[..., 0, :] - fp)


def confusion_at(counts: Counts, level: int) -> Confusion:
    """Confusion for "foreground where the quantised probability is at least ``level``", 0–255; arrays ``(…,)``."""
    every = confusion_by_threshold(counts)
    return Confusion(every.tp[..., level], every.fp[..., level], every.fn[..., level], every.tn[..., level])


def average_precision(counts: Counts) -> Values:
    """Average precision Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds, without interpolation.

    Args:
        counts: ``int64 (…, 2, 256)``.

    Returns:
        ``(…,)``, 0–1; NaN where there is no foreground.
    """
    every = confusion_by_threshold(counts)
    positives = counts[..., 1, :].sum(axis=-1)
    total = (every.precision * counts[..., 1, :]).sum(axis=-1)
    result: Values = np.full(np.shape(total), np.nan)
    np.divide(total, positives, out=result, where=positives > 0)
    return result


def level_of(threshold: float) -> int:
    """Smallest quantised level that a probability of at least ``threshold`` (0–1) has.

    >>> level_of(0.5)
    128
    """
    # A checkpoint keeps the threshold in single precision, which may lie 1e-5 of a level above it.
    return int(np.ceil(threshold * 255 - 1e-4))
