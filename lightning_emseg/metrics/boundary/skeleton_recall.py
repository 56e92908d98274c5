"""How much of the membranes' skeletons is found, and where they are broken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.planes import check_is_plane
from lightning_emseg.metrics.boundary.runs import runs
from lightning_emseg.metrics.boundary.skeleton import skeleton
from lightning_emseg.metrics.boundary.tolerant_f1 import within
from lightning_emseg.metrics.comparison import Comparison, Mask
from lightning_emseg.metrics.mosaic_metric import MosaicMetric
from lightning_emseg.metrics.threads import at_once

SHORTEST_BREAK_NM = 40.0
"""Of panels and error maps: shorter gaps do not count as breaks."""


@dataclass(frozen=True)
class Breaks:
    """Gaps in the membranes.

    Attributes:
        number: Of gaps longer than the shortest that counts.
        skeleton_mm: Length of the whole true skeleton.
    """

    number: int
    skeleton_mm: float

    @property
    def per_mm(self) -> float:
        """Gaps a millimeter of true skeleton; NaN where there is none."""
        return self.number / self.skeleton_mm if self.skeleton_mm > 0 else math.nan


def share_covered(lines: Mask, covered: Mask) -> float:
    """Share of a skeleton's pixels that are covered; 1 where there is no skeleton.

    With the true skeleton and the predicted foreground this is the skeleton recall (topology sensitivity), with the
    predicted skeleton and the true foreground the skeleton precision; a tolerance is a foreground grown by it.

    Source: Shit et al., "clDice", CVPR 2021, equation 1, there without a tolerance.

    Args:
        lines: ``bool (Y, X)``, of :func:`~lightning_emseg.metrics.boundary.skeleton.skeleton`.
        covered: ``bool (Y, X)``.

    Returns:
        0–1.
    """
    number = int(np.count_nonzero(lines))
    return int(np.count_nonzero(lines & covered)) / number if number else 1.0


def breaks(lines: Mask, covered: Mask, pixel_size_nm: Sequence[float], shortest_nm: float) -> Breaks:
    """Count the gaps in the membranes: 8-connected runs of the true skeleton that are not covered.

    This is U-RISC's "incontinuity of the membrane", which the paper names but does not define. Gaps that meet at a
    junction are one.

    Args:
        lines: ``bool (Y, X)``, the true skeleton.
        covered: ``bool (Y, X)``, the predicted foreground, grown by a tolerance.
        pixel_size_nm: Of Y and X.
        shortest_nm: Only gaps longer than this count; lengths as in
            :func:`~lightning_emseg.metrics.boundary.runs.runs`.

    Returns:
        Their number and the length of the skeleton.
    """
    gaps = runs(lines & ~covered, pixel_size_nm).lengths_nm
    whole = runs(lines, pixel_size_nm).lengths_nm
    return Breaks(int(np.count_nonzero(gaps > shortest_nm)), float(whole.sum()) / 1e6)


class SkeletonRecall(MosaicMetric):
    """Skeleton recall and precision, and the number of breaks, of whole mosaics; in planes only.

    See :func:`share_covered` and :func:`breaks`. The skeleton of the prediction is that of all of it, and counts
    where the truth is known.

    Args:
        tolerance_nm: How far beside a skeleton foreground may lie to cover it.
        shortest_break_nm: Breaks count when they are longer than this.
        mosaics: Number of mosaics; a module sets it to that of its data.

    Raises:
        UserError: if a length is negative or not finite.
    """

    columns = ("skeleton_recall", "skeleton_precision", "breaks", "breaks_per_mm")

    def __init__(self, tolerance_nm: float, shortest_break_nm: float, mosaics: int = 1) -> None:
        for name, length in (("tolerance_nm", tolerance_nm), ("shortest_break_nm", shortest_break_nm)):
            if not 0 <= length < math.inf:
                raise UserError(f"SkeletonRecall: {name} must be 0 or more nanometers, got {length}")
        self.tolerance_nm, self.shortest_break_nm = tolerance_nm, shortest_break_nm
        super().__init__(mosaics)

    def row(self, comparison: Comparison) -> tuple[float, ...]:
        """Skeleton recall, skeleton precision, breaks, breaks a millimeter (NaN without a true skeleton).

        Raises:
            UserError: if the mosaic is a volume.
        """
        check_is_plane(comparison, "SkeletonRecall", "thins")
        of_truth, of_prediction = at_once(
            [
                lambda: skeleton(comparison.truth),
                lambda: skeleton(comparison.probability >= comparison.level) & comparison.known,
            ],
            comparison.threads,
        )
        found = within(comparison.distance_to_prediction_nm, self.tolerance_nm)
        gaps = breaks(of_truth, found, comparison.pixel_size_nm, self.shortest_break_nm)
        recall = share_covered(of_truth, found)
        precision = share_covered(of_prediction, within(comparison.distance_to_truth_nm, self.tolerance_nm))
        return recall, precision, float(gaps.number), gaps.per_mm
