"""F1, precision and recall of membranes that may lie a little beside the true ones."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from lightning_emseg.metrics.comparison import Comparison, Distances, Mask
from lightning_emseg.metrics.mosaic_metric import MosaicMetric

Scores = NDArray[np.float64]

# Distances come in single precision; two that differ are further apart than this, up to some 300 px.
_ROUNDING = 1 + 2e-6


def tolerant_scores(
    truth: Mask,
    predicted: Mask,
    distance_to_truth_nm: Distances,
    distance_to_prediction_nm: Distances,
    tolerances_nm: Sequence[float],
) -> Scores:
    """F1, precision and recall that forgive errors of place up to a tolerance.

    Precision is the share of the predicted foreground that lies within the tolerance of true foreground, recall the
    share of the true foreground within the tolerance of predicted foreground, F1 their harmonic mean; Euclidean,
    between centres of pixels, a distance of exactly the tolerance being within. Precision is 1 where nothing is
    predicted and recall 1 where there is nothing to find, so that two empty masks have an F1 of 1. Ignored pixels
    must be in neither mask.

    Source: the boundary measure of Martin, Fowlkes and Malik, IEEE PAMI 26 (2004), with distances in place of their
    assignment of pixel to pixel, as in Perazzi et al., CVPR 2016, and in U-RISC's script with ``bound_pix``.

    Args:
        truth: ``bool (*S)``, 2D or 3D, the true foreground.
        predicted: ``bool (*S)``, the predicted one.
        distance_to_truth_nm: ``float32 (*S)``, of every pixel to the nearest of ``truth``: 0 (or less) within it,
            infinite where it is empty.
        distance_to_prediction_nm: ``float32 (*S)``, likewise to ``predicted``.
        tolerances_nm: T of them, 0 and more.

    Returns:
        ``float64 (T, 3)``: F1, precision, recall, each 0–1.
    """
    off_truth, off_prediction = distance_to_truth_nm[predicted], distance_to_prediction_nm[truth]
    scores = []
    for tolerance in tolerances_nm:
        precision = _share_within(off_truth, tolerance)
        recall = _share_within(off_prediction, tolerance)
        scores.append((harmonic_mean(precision, recall), precision, recall))
    return np.array(scores, np.float64).reshape(-1, 3)


def _share_within(distances: Distances, tolerance: float) -> float:
    if not distances.size:
        return 1.0
    return int(np.count_nonzero(within(distances, tolerance))) / distances.size


def within(distances: Distances, tolerance: float) -> Mask:
    """Where distances ``float32 (*S)`` are at most a tolerance in the same unit, whatever their rounding."""
    found: Mask = distances <= np.float32(tolerance * _ROUNDING)
    return found


def harmonic_mean(precision: float, recall: float) -> float:
    """F1 of a precision and a recall; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


class TolerantF1(MosaicMetric):
    """F1, precision and recall with a tolerance, of whole mosaics; see :func:`tolerant_scores`.

    For each tolerance t the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and ``recall_within_<t>nm``.

    Args:
        tolerance_nm: One or several tolerances, in nm.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a tolerance is negative or not finite, or given twice.
    """

    def __init__(self, tolerance_nm: list[float] | float, mosaics: int = 1) -> None:
        self.tolerances_nm = tuple(tolerance_nm) if isinstance(tolerance_nm, list) else (tolerance_nm,)
        if not all(0 <= tolerance < math.inf for tolerance in self.tolerances_nm):
            raise UserError(f"TolerantF1: tolerance_nm must be 0 or more nanometers, got {tolerance_nm}")
        self.columns = tuple(
            f"{name}_within_{tolerance:g}nm"
            for tolerance in self.tolerances_nm
            for name in ("f1", "precision", "recall")
        )
        if len(set(self.columns)) < len(self.columns):
            raise UserError(f"TolerantF1: tolerance_nm names a tolerance twice, got {tolerance_nm}; give it once")
        super().__init__(mosaics)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """F1, precision and recall at the first tolerance, at the next, and so on."""
        scores = tolerant_scores(
            comparison.truth,
            comparison.predicted,
            comparison.distance_to_truth_nm,
            comparison.distance_to_prediction_nm,
            self.tolerances_nm,
        )
        return tuple(scores.ravel().tolist())
