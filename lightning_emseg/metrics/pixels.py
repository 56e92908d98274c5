"""Pixel scores from counts of quantised probabilities or of classes, at every threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE

LEVELS = 256
"""Number of quantised probability levels; level q stands for q / 255."""

Counts = NDArray[np.int64]
_BAND_PIXELS = 1 << 23
"""Pixels counted at a time: counting needs 10 to 16 bytes a pixel meanwhile."""


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
        """Return the same with background as the positive class."""
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
    """Compute the confusion at every threshold.

    Args:
        counts: ``int64 (…, 2, 256)`` of :func:`~lightning_emseg.metrics.pixels.truth_histogram`.

    Returns:
        Arrays ``(…, 256)``: entry t is for "foreground where the quantised probability is at least t".
    """
    at_least = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
    total = counts.sum(axis=-1, keepdims=True)
    fp, tp = at_least[..., 0, :], at_least[..., 1, :]
    return Confusion(tp, fp, total[..., 1, :] - tp, total[..., 0, :] - fp)


def confusion_at(counts: Counts, level: int) -> Confusion:
    """Compute the confusion at one threshold, "foreground where the probability is at least ``level``"; ``(…,)``."""
    every = confusion_by_threshold(counts)
    return Confusion(every.tp[..., level], every.fp[..., level], every.fn[..., level], every.tn[..., level])


def average_precision(counts: Counts) -> Values:
    """Compute the average precision Σ (Rₙ − Rₙ₋₁) Pₙ over falling thresholds, without interpolation.

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


def mean_curves(counts: Counts) -> dict[str, list[float]]:
    """Average F1, precision and recall over mosaics at each of the 256 levels; empty without mosaics.

    Args:
        counts: ``int64 (mosaics, 2, 256)``.

    Returns:
        ``mean_f1``, ``mean_precision`` and ``mean_recall``; that of F1 is not the F1 of the other two.
    """
    found = confusion_by_threshold(counts)
    values = {"mean_f1": found.f1, "mean_precision": found.precision, "mean_recall": found.recall}
    return {name: each.mean(axis=0).tolist() if len(counts) else [] for name, each in values.items()}


def level_of(threshold: float) -> int:
    """Return the smallest quantised level of a probability of at least ``threshold`` (0–1).

    >>> level_of(0.5)
    128
    """
    # A checkpoint keeps the threshold in single precision, which may lie 1e-5 of a level above it.
    return int(np.ceil(threshold * 255 - 1e-4))


def roc_auc(counts: Counts) -> Values:
    """Compute the area under the curve of true against false positive rate, over all thresholds.

    This is the probability that a foreground pixel has a higher quantised probability than a background pixel, ties
    counting half: the trapezoids between neighbouring thresholds, and so exact for the quantised map. Histograms of
    parts add up, so that no mosaic needs to be held whole.

    Source: Hanley and McNeil, Radiology 143 (1982); as scikit-learn's ``roc_auc_score``.

    Args:
        counts: ``int64 (…, 2, 256)`` of :func:`~lightning_emseg.metrics.pixels.truth_histogram`.

    Returns:
        ``(…,)``, 0–1; NaN where there is no foreground or no background.

    >>> from lightning_emseg.metrics.pixels import truth_histogram
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


Criterion = Literal["mean_f1", "pooled_f1", "fixed"]


def choose_level(counts: Counts, criterion: Criterion) -> int:
    """Choose the quantised level that a validation set suggests.

    Args:
        counts: ``int64 (mosaics, 2, 256)``; mosaics without any counted pixel are left out.
        criterion: ``mean_f1`` maximises the mean of the mosaics' F1, ``pooled_f1`` the F1 of all their pixels
            together, ``fixed`` is 0.5 whatever the data.

    Returns:
        A level from 1 to 255; of equal maxima the middle one.
    """
    used = counts[counts.sum(axis=(1, 2)) > 0]
    if criterion == "fixed" or not len(used):
        return level_of(0.5)
    if criterion == "pooled_f1":
        used = used.sum(axis=0, keepdims=True)
    curve = confusion_by_threshold(used).f1.mean(axis=0)[1:]
    best = np.flatnonzero(curve == curve.max())
    return int(best[len(best) // 2]) + 1


SCORES = ("f1", "precision", "recall", "iou")


def count_pixels(found: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int = 0) -> Counts:
    """Count the pixels of a prediction by truth, a band of rows at a time; counts of parts of a mosaic add up.

    Args:
        found: ``uint8 (*S)``, at least one axis: quantised probabilities of the foreground, or positions of classes.
        truth: ``uint8 (*S)``: 0 and 1, or positions of classes, and 255 for ignored.
        classes: Number of classes; 0 for probabilities of one foreground.

    Returns:
        ``int64 (2, 256)`` of :func:`truth_histogram`, or ``(classes, classes)`` of :func:`class_confusion`.

    Raises:
        ValueError: if the shapes differ, or a value of the truth or of the classes is none.
    """
    if found.shape != truth.shape:
        raise ValueError(f"prediction {found.shape} and truth {truth.shape} differ in shape")
    rows = max(1, _BAND_PIXELS // max(1, math.prod(truth.shape[1:])))
    total: Counts = np.zeros((classes, classes) if classes else (2, LEVELS), np.int64)
    for start in range(0, len(truth), rows):
        band = found[start : start + rows], truth[start : start + rows]
        total += class_confusion(*band, classes) if classes else truth_histogram(*band)
    return total


def class_confusion(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> Counts:
    """Count pixels by true and predicted class.

    Args:
        predicted: ``uint8``, any shape, positions of classes.
        truth: ``uint8`` of the same shape; 255 is ignored.
        classes: Number of classes.

    Returns:
        ``int64 (classes, classes)``: a row for each true class, a column for each predicted one.

    Raises:
        ValueError: if the shapes differ or a value is no class.

    >>> class_confusion(np.array([0, 1, 1], np.uint8), np.array([0, 2, 255], np.uint8), 3).tolist()
    [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"prediction {predicted.shape} and truth {truth.shape} differ in shape")
    joint = np.bincount((truth.astype(np.uint16) << 8 | predicted).ravel(), minlength=256 * 256)
    table: Counts = joint.reshape(256, 256).astype(np.int64)
    if table[classes:IGNORE].any() or table[:IGNORE, classes:].any():
        raise ValueError(f"truth or prediction have values that are none of {classes} classes")
    return table[:classes, :classes]


def by_class(counts: Counts) -> Confusion:
    """Count each class against all others.

    Args:
        counts: ``int64 (…, C, C)``, a row for each true class.

    Returns:
        Arrays ``(…, C)``.
    """
    tp = np.diagonal(counts, axis1=-2, axis2=-1)
    fp, fn = counts.sum(axis=-2) - tp, counts.sum(axis=-1) - tp
    total = counts.sum(axis=(-2, -1))[..., None]
    return Confusion(tp, fp, fn, total - tp - fp - fn)


def class_scores(counts: Counts, names: Sequence[str]) -> dict[str, float]:
    """Score every class and the background, and average over the other classes.

    Args:
        counts: ``int64 (C, C)``, a row for each true class; the first class is the background.
        names: Names of the classes.

    Returns:
        ``mean_<score>`` over the classes behind the first, ``background_<score>`` of the first and ``<name>_<score>``
        of the others, for F1, precision, recall and IoU. NaN where a class is in neither truth nor prediction; the mean
        leaves such classes out.
    """
    found = by_class(counts)
    absent = found.tp + found.fp + found.fn == 0
    row: dict[str, float] = {}
    for name in SCORES:
        values = np.where(absent, np.nan, getattr(found, name))
        row[f"mean_{name}"] = float(np.nanmean(values[1:])) if not absent[1:].all() else float("nan")
        row |= {f"{of}_{name}": float(value) for of, value in zip(["background", *names[1:]], values, strict=True)}
    return row
