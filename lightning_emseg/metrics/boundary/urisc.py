"""The score of the U-RISC competition, as its published script computes it, and the same of a binary truth."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.boundary.tolerance import harmonic_mean
from lightning_emseg.metrics.comparison import Mask, distance_to

Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class UriscScore:
    """One image's score.

    Attributes:
        f1: Harmonic mean of precision and recall, 0–1.
        precision: 0–1.
        recall: 0–1.
    """

    f1: float
    precision: float
    recall: float


def urisc_score(truth: Grey, predicted: Mask, bound_pix: int = 0, name: str = "the prediction") -> UriscScore:
    """U-RISC's official score, which takes a grey truth as it is.

    With g = 255 − grey value of the truth, P the predicted membrane and both of them grown by a disk where they are
    the yardstick: precision = |P ∩ {g > 0}| / |P|, recall = Σ_P g / Σ g. An empty P has precision 1 and recall 0; a
    truth without membrane precision 0 and recall 1; both together 1 and 1. The script refuses a prediction whose
    membrane is more than a fifth of its background (and cannot divide by an empty one); here that is a warning.

    Source: ``Evaluation/eval.py`` of github.com/EmmaSRH/U-RISC-Data-Code; reproduced to 1e-6 on its own images.

    Args:
        truth: ``uint8 (Y, X)``, grey values as released: 0 membrane, 255 background.
        predicted: ``bool (Y, X)``, membrane.
        bound_pix: Radius of the disk in px; 0 in the competition.
        name: Of the prediction, for the warning.

    Returns:
        F1, precision, recall.

    Raises:
        ValueError: if the shapes differ or are not those of a plane.
    """
    if refused_by_urisc(predicted):
        warnings.warn(
            f"{name}: membrane exceeds a fifth of the background; U-RISC's published script would refuse it",
            stacklevel=2,
        )
    return _score(255 - truth, predicted, bound_pix)


def urisc_binary_score(truth: Mask, predicted: Mask, bound_pix: int = 0) -> UriscScore:
    """U-RISC's score with a binary truth, which is F1 proper; differs from :func:`urisc_score` on grey truths.

    Args:
        truth: ``bool (Y, X)``, membrane, e.g. grey values below 128.
        predicted: ``bool (Y, X)``, membrane; ignored pixels must be in neither.
        bound_pix: Radius of the disk in px, as in :func:`urisc_score`.

    Returns:
        F1, precision, recall; empty masks as in :func:`urisc_score`.

    Raises:
        ValueError: if the shapes differ or are not those of a plane.
    """
    return _score(truth.view(np.uint8), predicted, bound_pix)


def refused_by_urisc(predicted: Mask) -> bool:
    """Whether the published script would not score a prediction: its background is less than 5 times its membrane."""
    membrane = int(np.count_nonzero(predicted))
    return predicted.size - membrane < 5 * membrane


def _score(weight: Grey, predicted: Mask, bound_pix: int) -> UriscScore:
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
    """A mask dilated by a disk of all pixels up to a distance in px."""
    if not radius:
        return mask
    # Squares of distances in px are whole numbers, so half a unit between them does away with rounding.
    grown: Mask = distance_to(mask, (1.0, 1.0)) < np.sqrt(radius**2 + 0.5)
    return grown
