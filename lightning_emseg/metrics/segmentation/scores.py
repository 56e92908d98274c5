"""Scores of segmentations: V-Rand, adapted Rand error, V-Info and variation of information."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.mosaic_pair import MosaicPair, MosaicScore
from lightning_emseg.metrics.segmentation.cells import curve_of, sweep_of, table_of
from lightning_emseg.metrics.segmentation.contingency import NO_SCORE, Contingency, SplitMerge


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


def _adapted_rand_row(comparison: MosaicPair) -> tuple[float, ...]:
    found = adapted_rand(table_of(comparison, thinned=False))
    return found.error, found.precision, found.recall


ADAPTED_RAND = MosaicScore(("arand", "arand_precision", "arand_recall"), _adapted_rand_row)
"""ARAND of the cells as they are, with precision and recall."""


def v_info(table: Contingency) -> SplitMerge:
    """Foreground-restricted information theoretic score V^Info.

    With S the predicted and T the true segment of a random pixel of true segments: split = I(S;T) / H(S), merge =
    I(S;T) / H(T), f = I(S;T) / (½ H(S) + ½ H(T)). A pixel of a true segment that is predicted as border (0) is a
    segment of its own. Source: Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142), section "Information
    theoretic scoring", α = ½; pixels of the predicted border as in Fiji's
    ``VariationOfInformation.foregroundRestrictedFscore``.

    Args:
        table: Of truth and prediction, as binary maps' cells or as instances; entries of true background are left out.

    Returns:
        0–1; NaN if the truth has no segment. A single true segment cannot be merged (merge 1), a single predicted
        one splits nothing (split 1), and f is 1 if both are single, where Fiji's script has 0.
    """
    table = table.without_background()
    if not table.pixels:
        return NO_SCORE
    border = table.predicted_id == 0
    size = np.where(border, 1, table.predicted_size)
    share = np.where(border, 1, table.count)
    splits = _mean_bits(table, table.truth_size / share)
    merges = _mean_bits(table, size / share)
    predicted, truth = _mean_bits(table, table.pixels / size), _mean_bits(table, table.pixels / table.truth_size)
    return SplitMerge(
        _kept(splits + merges, predicted + truth),
        _kept(splits, predicted),
        _kept(merges, truth),
    )


@dataclass(frozen=True)
class VariationOfInformationScore:
    """Conditional entropies in bits, 0 at best; NaN where the truth has no segment.

    Attributes:
        split: H(S|T), of the predicted segment where the true one is known: over-segmentation.
        merge: H(T|S), of the true segment where the predicted one is known: under-segmentation.
    """

    split: float
    merge: float

    @property
    def total(self) -> float:
        """Variation of information H(S|T) + H(T|S)."""
        return self.split + self.merge


def variation_of_information(table: Contingency) -> VariationOfInformationScore:
    """Variation of information (VOI) in bits (logarithms to base 2), over the pixels of true segments.

    The predicted label 0 is a segment like any other, as in CREMI's script and in
    ``skimage.metrics.variation_of_information`` with ``ignore_labels=[0]``. Source: Meilă 2007, Journal of
    Multivariate Analysis 98:873–895.

    Args:
        table: Of truth and prediction; entries of true background are left out.

    Returns:
        Bits, from 0 to the logarithm of the number of pixels.
    """
    table = table.without_background()
    if not table.pixels:
        return VariationOfInformationScore(math.nan, math.nan)
    return VariationOfInformationScore(
        _mean_bits(table, table.truth_size / table.count), _mean_bits(table, table.predicted_size / table.count)
    )


def _mean_bits(table: Contingency, inverse_probability: NDArray[np.float64]) -> float:
    """Mean over pixels; every term is at least 0, and exactly 0 where nothing is uncertain."""
    return float(np.dot(table.count, np.log2(inverse_probability))) / table.pixels


def _kept(lost: float, entropy: float) -> float:
    return max(0.0, 1 - lost / entropy) if entropy > 0 else 1.0


def _variation_row(comparison: MosaicPair) -> tuple[float, ...]:
    found = variation_of_information(table_of(comparison, thinned=False))
    return found.total, found.split, found.merge


VARIATION_OF_INFORMATION = MosaicScore(("voi", "voi_split", "voi_merge"), _variation_row)
"""VOI of the cells as they are, in bits, with its parts."""


CellFunction = Callable[[Contingency], SplitMerge]


def cell_score(name: str, score: CellFunction, thinned: bool = True, max_over_thresholds: bool = False) -> MosaicScore:
    """Score cells at the threshold of a comparison, and at the best one if wanted.

    A 3D mosaic is scored as one volume; ISBI 2012 scores sections and averages them.

    Args:
        name: Beginning of the columns ``<name>``, ``<name>_split``, ``<name>_merge``, ``<name>_max`` and
            ``<name>_max_threshold`` (0–1, of the foreground's probability).
        score: Score of a table.
        thinned: Whether predicted borders are thinned to one pixel first, as ISBI 2012 does; if not, columns begin with
            ``<name>_unthinned``.
        max_over_thresholds: Whether to add the best over ISBI 2012's thresholds, which takes 11 segmentations.
    """
    name = name if thinned else f"{name}_unthinned"
    at_best = (f"{name}_max", f"{name}_max_threshold") if max_over_thresholds else ()
    row = partial(_row, score=score, thinned=thinned, max_over_thresholds=max_over_thresholds)
    return MosaicScore((name, f"{name}_split", f"{name}_merge", *at_best), row)


def _row(comparison: MosaicPair, score: CellFunction, thinned: bool, max_over_thresholds: bool) -> tuple[float, ...]:
    found = score(table_of(comparison, thinned=thinned))
    row = (found.f, found.split, found.merge)
    if not max_over_thresholds:
        return row
    curve = curve_of(sweep_of(comparison, thinned=thinned), score)
    return (*row, curve.maximum, math.nan if curve.best_level is None else curve.best_level / 255)
