"""Choosing the threshold on validation data, by a named criterion."""

from typing import Literal

import numpy as np

from lightning_emseg.metrics.histogram import Counts
from lightning_emseg.metrics.pixel import confusion_by_threshold, level_of

Criterion = Literal["mean_f1", "pooled_f1", "fixed"]


def choose_level(counts: Counts, criterion: Criterion) -> int:
    """The quantised level that a validation set suggests.

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
