"""F1, precision and recall of membranes that may lie a little beside the true ones."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.comparison import Comparison, Distances, Mask
from lightning_emseg.metrics.mosaic_score import MosaicScore

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


def tolerant_f1(tolerances_nm: Sequence[float]) -> MosaicScore:
    """F1, precision and recall of whole mosaics at the first tolerance, at the next, and so on.

    Args:
        tolerances_nm: Tolerances t of the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and
            ``recall_within_<t>nm``.
    """
    columns = tuple(
        f"{name}_within_{tolerance:g}nm" for tolerance in tolerances_nm for name in ("f1", "precision", "recall")
    )
    return MosaicScore(columns, partial(_row, tolerances_nm=tolerances_nm))


def _row(comparison: Comparison, tolerances_nm: Sequence[float]) -> tuple[float, ...]:
    scores = tolerant_scores(
        comparison.truth,
        comparison.predicted,
        comparison.distance_to_truth_nm,
        comparison.distance_to_prediction_nm,
        tolerances_nm,
    )
    return tuple(scores.ravel().tolist())
