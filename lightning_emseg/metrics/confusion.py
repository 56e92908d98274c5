"""Counts of predicted classes by true class, and the scores of each class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.pixel import Confusion

SCORES = ("f1", "precision", "recall", "iou")


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
    """Each class against all others.

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
    """Scores of every class, of the background, and the mean over the other classes.

    Args:
        counts: ``int64 (C, C)``, a row for each true class; the first class is the background.
        names: Of the classes.

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
