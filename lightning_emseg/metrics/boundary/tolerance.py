"""F1, precision and recall with a tolerance, and the score of the U-RISC competition."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.mosaic_pair import Distances, Mask, MosaicPair, MosaicScore, distance_to, within

ToleranceScores = NDArray[np.float64]


def tolerant_scores(
    truth: Mask,
    predicted: Mask,
    distance_to_truth_nm: Distances,
    distance_to_prediction_nm: Distances,
    tolerances_nm: Sequence[float],
) -> ToleranceScores:
    """Compute F1, precision and recall that forgive errors of place up to a tolerance.

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


def harmonic_mean(precision: float, recall: float) -> float:
    """Compute F1 of a precision and a recall; 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def tolerant_f1(tolerances_nm: Sequence[float]) -> MosaicScore:
    """Name F1, precision and recall of whole mosaics at the first tolerance, at the next, and so on.

    Args:
        tolerances_nm: Tolerances t of the columns ``f1_within_<t>nm``, ``precision_within_<t>nm`` and
            ``recall_within_<t>nm``.
    """
    columns = tuple(
        f"{name}_within_{tolerance:g}nm" for tolerance in tolerances_nm for name in ("f1", "precision", "recall")
    )
    return MosaicScore(columns, partial(_tolerance_row, tolerances_nm=tolerances_nm))


def _tolerance_row(pair: MosaicPair, tolerances_nm: Sequence[float]) -> tuple[float, ...]:
    scores = tolerant_scores(
        pair.truth,
        pair.predicted,
        pair.distance_to_truth_nm,
        pair.distance_to_prediction_nm,
        tolerances_nm,
    )
    return tuple(scores.ravel().tolist())


Grey = NDArray[np.uint8]


class UriscScore(NamedTuple):
    """One image's score.

    Attributes:
        f1: Harmonic mean of precision and recall, 0–1.
        precision: 0–1.
        recall: 0–1.
    """

    f1: float
    precision: float
    recall: float


def urisc_score(truth: Grey, predicted: Mask, name: str = "the prediction") -> UriscScore:
    """Compute U-RISC's official score, which takes a grey truth as it is.

    With g = 255 − grey value of the truth and P the predicted membrane: precision = |P ∩ {g > 0}| / |P|, recall =
    Σ_P g / Σ g. An empty P has precision 1 and recall 0; a truth without membrane precision 0 and recall 1; both
    together 1 and 1. The script refuses a prediction whose membrane is more than a fifth of its background (and cannot
    divide by an empty one); here that is a warning.

    Source: ``Evaluation/eval.py`` of github.com/EmmaSRH/U-RISC-Data-Code; reproduced to 1e-6 on its own images.

    Args:
        truth: ``uint8 (Y, X)``, grey values as released: 0 membrane, 255 background.
        predicted: ``bool (Y, X)``, membrane.
        name: Name of the prediction, for the warning.

    Returns:
        F1, precision, recall.

    Raises:
        ValueError: if the shapes differ or are not those of a plane.
    """
    membrane = int(np.count_nonzero(predicted))
    if predicted.size - membrane < 5 * membrane:
        warnings.warn(
            f"{name}: membrane exceeds a fifth of the background; U-RISC's published script would refuse it",
            stacklevel=2,
        )
    return _urisc(255 - truth, predicted, 0)


def urisc_binary_score(truth: Mask, predicted: Mask, bound_pix: int = 0) -> UriscScore:
    """Compute U-RISC's score with a binary truth: F1 proper, other than :func:`urisc_score` on grey truths.

    Truth and prediction are grown by a disk where they are the yardstick, as by the script's ``bound_pix``.

    Args:
        truth: ``bool (Y, X)``, membrane, e.g. grey values below 128.
        predicted: ``bool (Y, X)``, membrane; ignored pixels must be in neither.
        bound_pix: Radius of the disk in px; 0 in the competition.

    Returns:
        F1, precision, recall; empty masks as in :func:`urisc_score`.

    Raises:
        ValueError: if the shapes differ or are not those of a plane.
    """
    return _urisc(truth.view(np.uint8), predicted, bound_pix)


def urisc_binary_f1(bound_pix: int = 0) -> MosaicScore:
    """Name :func:`urisc_binary_score` of whole mosaics.

    Args:
        bound_pix: Radius of the disk in px.
    """
    columns = ("urisc_binary_f1", "urisc_binary_precision", "urisc_binary_recall")
    return MosaicScore(columns, partial(_urisc_row, bound_pix=bound_pix), planes_only=True)


def _urisc_row(pair: MosaicPair, bound_pix: int) -> tuple[float, ...]:
    return urisc_binary_score(pair.truth, pair.predicted, bound_pix)


def _urisc(weight: Grey, predicted: Mask, bound_pix: int) -> UriscScore:
    if weight.shape != predicted.shape or weight.ndim != 2:
        raise ValueError(f"a truth of {weight.shape} px cannot score a prediction of {predicted.shape} px")
    true = weight > 0
    of_prediction, of_truth = int(np.count_nonzero(predicted)), int(weight.sum(dtype=np.int64))
    if not of_prediction or not of_truth:
        precision, recall = float(not of_prediction), float(not of_truth)
    else:
        precision = int(np.count_nonzero(predicted & _grown(true, bound_pix))) / of_prediction
        recall = int(weight.sum(dtype=np.int64, where=_grown(predicted, bound_pix))) / of_truth
    return UriscScore(harmonic_mean(precision, recall), precision, recall)


def _grown(mask: Mask, radius: int) -> Mask:
    """Dilate a mask by a disk of all pixels up to a distance in px."""
    if not radius:
        return mask
    # Squares of distances in px are whole numbers, so half a unit between them does away with rounding.
    grown: Mask = distance_to(mask, (1.0, 1.0)) < np.sqrt(radius**2 + 0.5)
    return grown
