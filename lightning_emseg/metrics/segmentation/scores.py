"""Scores of segmentations: V-Rand, adapted Rand error, V-Info, variation of information, IoU of labelled objects."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.mosaic_pair import Mask, MosaicPair, MosaicScore
from lightning_emseg.metrics.pixels import level_of
from lightning_emseg.metrics.segmentation.cells import score_levels, tabulate_cells, tabulate_sweep
from lightning_emseg.metrics.segmentation.contingency import NO_SCORE, Contingency, SplitMerge


def v_rand(table: Contingency) -> SplitMerge:
    """Compute the foreground-restricted Rand score V^Rand.

    With p_ij the share of pixels in predicted segment i and true segment j, s_i and t_j its sums, over the pixels of
    true segments: split = Σ p_ij² / Σ t_j², the chance that two pixels of one true segment are predicted as one;
    merge = Σ p_ij² / Σ s_i², the chance that two pixels of one predicted segment belong to one true segment;
    f = Σ p_ij² / (½ Σ s_i² + ½ Σ t_j²). A pixel of a true segment that is predicted as border (0) is a segment of
    its own. Source: Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142), section "Rand scoring", α = ½;
    pixels of the predicted border and the normalisation by n² as in Fiji's
    ``RandError.getForegroundRestrictedRandIndexStatsN2``.

    Args:
        table: Table of cells or of instances; entries of true background are left out.

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


class AdaptedRandError(NamedTuple):
    """Adapted Rand error with its parts.

    Attributes:
        error: 1 − F of precision and recall, 0 at best; NaN, like the others, where the truth has no segment.
        precision: Share of the pairs of pixels in one predicted segment that are in one true segment; low for mergers.
        recall: Share of the pairs of pixels in one true segment that are in one predicted segment; low for splits.
    """

    error: float
    precision: float
    recall: float


def adapted_rand(table: Contingency) -> AdaptedRandError:
    """Compute the adapted Rand error (ARAND) over pairs of different pixels of true segments.

    The predicted label 0 is a segment like any other. The error is that of ``skimage.metrics.adapted_rand_error``
    (which, up to release 0.26, returns precision and recall in the other order than it documents). SNEMI3D's and
    CREMI's scripts also count pairs of a pixel with itself and, in effect, leave pairs of predicted 0 out; without
    predicted 0 they differ by about the number of segments over that of pixels.

    Args:
        table: Table of truth and prediction; entries of true background are left out.

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
    """Sum size² over segments, as each of a segment's entries brings its own part of one of the factors."""
    return float(np.dot(count, size))


def _ratio(part: float, whole: float) -> float:
    """Divide a part by its whole; 1 of nothing, as there is nothing that could be wrong."""
    return part / whole if whole > 0 else 1.0


def v_info(table: Contingency) -> SplitMerge:
    """Compute the foreground-restricted information theoretic score V^Info.

    With S the predicted and T the true segment of a random pixel of true segments: split = I(S;T) / H(S), merge =
    I(S;T) / H(T), f = I(S;T) / (½ H(S) + ½ H(T)). A pixel of a true segment that is predicted as border (0) is a
    segment of its own. Source: Arganda-Carreras et al. 2015 (Frontiers in Neuroanatomy 9:142), section "Information
    theoretic scoring", α = ½; pixels of the predicted border as in Fiji's
    ``VariationOfInformation.foregroundRestrictedFscore``.

    Args:
        table: Table of cells or of instances; entries of true background are left out.

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


class VariationOfInformationScore(NamedTuple):
    """Entropies in bits, 0 at best; NaN where the truth has no segment.

    Attributes:
        total: Variation of information H(S|T) + H(T|S).
        split: H(S|T), of the predicted segment where the true one is known: over-segmentation.
        merge: H(T|S), of the true segment where the predicted one is known: under-segmentation.
    """

    total: float
    split: float
    merge: float


def variation_of_information(table: Contingency) -> VariationOfInformationScore:
    """Compute the variation of information (VOI) in bits, over the pixels of true segments.

    The predicted label 0 is a segment like any other, as in CREMI's script and in
    ``skimage.metrics.variation_of_information`` with ``ignore_labels=[0]``. Source: Meilă 2007, Journal of
    Multivariate Analysis 98:873–895.

    Args:
        table: Table of truth and prediction; entries of true background are left out.

    Returns:
        Bits, from 0 to the logarithm of the number of pixels.
    """
    table = table.without_background()
    if not table.pixels:
        return VariationOfInformationScore(math.nan, math.nan, math.nan)
    split = _mean_bits(table, table.truth_size / table.count)
    merge = _mean_bits(table, table.predicted_size / table.count)
    return VariationOfInformationScore(split + merge, split, merge)


def _mean_bits(table: Contingency, inverse_probability: NDArray[np.float64]) -> float:
    """Average over pixels; every term is at least 0, and exactly 0 where nothing is uncertain."""
    return float(np.dot(table.count, np.log2(inverse_probability))) / table.pixels


def _kept(lost: float, entropy: float) -> float:
    return max(0.0, 1 - lost / entropy) if entropy > 0 else 1.0


def cell_score(
    name: str, score: Callable[[Contingency], SplitMerge], thinned: bool = True, max_over_thresholds: bool = False
) -> MosaicScore:
    """Score cells at the threshold of a pair, and at the best one if wanted.

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
    row = partial(_cell_row, score=score, thinned=thinned, max_over_thresholds=max_over_thresholds)
    columns = (name, f"{name}_split", f"{name}_merge", *at_best)
    return MosaicScore(columns, row, needs_probability=max_over_thresholds)


def _cell_row(
    pair: MosaicPair,
    score: Callable[[Contingency], tuple[float, ...]],
    thinned: bool = False,
    max_over_thresholds: bool = False,
) -> tuple[float, ...]:
    row = tuple(score(tabulate_cells(pair, thinned=thinned)))
    if not max_over_thresholds:
        return row
    curve = score_levels(tabulate_sweep(pair, thinned=thinned), score)
    return (*row, curve.maximum, math.nan if curve.best_level is None else curve.best_level / 255)


ADAPTED_RAND = MosaicScore(("arand", "arand_precision", "arand_recall"), partial(_cell_row, score=adapted_rand))
"""ARAND of the cells as they are, with precision and recall."""
VARIATION_OF_INFORMATION = MosaicScore(
    ("voi", "voi_split", "voi_merge"), partial(_cell_row, score=variation_of_information)
)
"""VOI of the cells as they are, in bits, with its parts."""


def labelled_objects_iou(truth: Mask, predicted: Mask, known: Mask | None = None) -> float:
    """Compute the IoU of the foreground without predicted objects that touch no labelled one.

    Predicted objects are connected components over faces, edges and corners (8 neighbours in 2D, 26 in 3D). One that
    shares a pixel with the true foreground counts as a whole, also where it reaches beyond it, so that what spills over
    or merges with a neighbour is still wrong; one that shares none is left out as a whole, even if it is wrong.

    Source: Conrad and Narayan (2021), on the benchmark of Perez et al. (2014): "we ignored areas in the predicted
    segmentations that did not coincide with a labeled instance"; that these are whole components, and their
    neighbours, are from the published code.

    Args:
        truth: ``bool (*S)``, 2D or 3D, the labelled foreground.
        predicted: ``bool (*S)``, the predicted one, also where nothing is known, as an object may reach across.
        known: ``bool (*S)``, pixels that count; all by default. True foreground must be known.

    Returns:
        0–1; NaN if nothing is labelled, as every prediction would be left out.
    """
    labelled = int(np.count_nonzero(truth))
    if not labelled:
        return math.nan
    objects = cc3d.connected_components(predicted, connectivity=8 if predicted.ndim == 2 else 26, out_dtype=np.uint32)
    touching = np.unique(objects[truth & predicted])
    counted = predicted if known is None else predicted & known
    size = np.bincount(objects[counted], minlength=int(objects.max()) + 1)
    kept = int(size[touching].sum())
    shared = int(np.count_nonzero(truth & predicted))
    return shared / (labelled + kept - shared)


def _labelled_row(pair: MosaicPair) -> tuple[float, ...]:
    known = None if pair.all_known else pair.known
    return tuple(
        labelled_objects_iou(pair.truth, pair.probability >= level, known) for level in (pair.level, level_of(0.5))
    )


LABELLED_OBJECTS_IOU = MosaicScore(("labelled_objects_iou", "labelled_objects_iou_at_0.5"), _labelled_row)
"""IoU where some objects are labelled only, at the threshold of a pair and at 0.5."""
