"""Rand scores of segmentations: V-Rand as ISBI 2012 ranks by, and the adapted Rand error of SNEMI3D and CREMI."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.segmentation.contingency import Contingency
from lightning_emseg.metrics.segmentation.split_merge import NO_SCORE, SplitMerge
from lightning_emseg.metrics.segmentation.tables import table_of


def v_rand(table: Contingency) -> SplitMerge:
    """Foreground-restricted Rand score V^Rand.

    With p_ij the share of pixels in predicted segment i and true segment j, s_i and t_j its sums, over the pixels of
    true segments: split = Σ p_ij² / Σ t_j², the chance that two pixels of one true segment are predicted as one;
    merge = Σ p_ij² / Σ s_i², the chance that two pixels of one predicted segment belong to one true segment;
    f = Σ p_ij² / (½ Σ s_i² + ½ Σ t_j²). A pixel of a true segment that is predicted as border (0) is a segment of
    its own. Source: Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142), section "Rand scoring", α = ½;
    pixels of the predicted border and the normalisation by n² as in Fiji's
    ``RandError.getForegroundRestrictedRandIndexStatsN2``.

    Args:
        table: Of truth and prediction, as binary maps' cells or as instances; entries of true background are left out.

    Returns:
        0–1; NaN if the truth has no segment.
    """
    table = table.without_background()
    if not table.pixels:
        return NO_SCORE
    border = table.predicted_id == 0
    alone = float(table.count[border].sum())
    both = _squares(table.count[~border]) + alone
    truth = _squares_of_segments(table.count, table.truth_size)
    predicted = _squares_of_segments(table.count[~border], table.predicted_size[~border]) + alone
    return SplitMerge(2 * both / (truth + predicted), both / truth, both / predicted)


@dataclass(frozen=True)
class AdaptedRandError:
    """Adapted Rand error with its parts.

    Attributes:
        error: 1 − F of precision and recall, 0 at best; NaN, like the others, where the truth has no segment.
        precision: Of the pairs of pixels in one predicted segment, those in one true segment; low for mergers.
        recall: Of the pairs of pixels in one true segment, those in one predicted segment; low for splits.
    """

    error: float
    precision: float
    recall: float


def adapted_rand(table: Contingency) -> AdaptedRandError:
    """Adapted Rand error (ARAND) over pairs of different pixels of true segments.

    The predicted label 0 is a segment like any other. The error is that of ``skimage.metrics.adapted_rand_error``
    (which, up to release 0.26, returns precision and recall in the other order than it documents). SNEMI3D's and
    CREMI's scripts also count pairs of a pixel with itself and, in effect, leave pairs of predicted 0 out; without
    predicted 0 they differ by about the number of segments over that of pixels.

    Args:
        table: Of truth and prediction; entries of true background are left out.

    Returns:
        0–1. Precision is 1 if no predicted segment has a pair of pixels, and recall if no true one has.
    """
    table = table.without_background()
    if not table.pixels:
        return AdaptedRandError(math.nan, math.nan, math.nan)
    both = _squares(table.count) - table.pixels
    truth = _squares_of_segments(table.count, table.truth_size) - table.pixels
    predicted = _squares_of_segments(table.count, table.predicted_size) - table.pixels
    return AdaptedRandError(1 - _ratio(2 * both, truth + predicted), _ratio(both, predicted), _ratio(both, truth))


def _squares(count: NDArray[np.int64]) -> float:
    # Fits into 64 bits up to 3e9 pixels in one segment.
    return float(np.dot(count, count))


def _squares_of_segments(count: NDArray[np.int64], size: NDArray[np.int64]) -> float:
    """Σ size² over segments, as each of a segment's entries brings its own part of one of the factors."""
    return float(np.dot(count, size))


def _ratio(part: float, whole: float) -> float:
    """Part of a whole; 1 of nothing, as there is nothing that could be wrong."""
    return part / whole if whole > 0 else 1.0


def _adapted_rand_row(comparison: Comparison) -> tuple[float, ...]:
    found = adapted_rand(table_of(comparison, thinned=False))
    return found.error, found.precision, found.recall


ADAPTED_RAND = MosaicScore(("arand", "arand_precision", "arand_recall"), _adapted_rand_row)
"""ARAND of the cells as they are, with precision and recall."""
