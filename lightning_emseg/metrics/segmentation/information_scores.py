"""Information scores of segmentations: V-Info as ISBI 2012 ranks by, and the variation of information."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.comparison import Comparison
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.segmentation.contingency import Contingency
from lightning_emseg.metrics.segmentation.split_merge import NO_SCORE, SplitMerge
from lightning_emseg.metrics.segmentation.tables import table_of


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


def _variation_row(comparison: Comparison) -> tuple[float, ...]:
    found = variation_of_information(table_of(comparison, thinned=False))
    return found.total, found.split, found.merge


VARIATION_OF_INFORMATION = MosaicScore(("voi", "voi_split", "voi_merge"), _variation_row)
"""VOI of the cells as they are, in bits, with its parts."""
