"""How much of the membranes' skeletons is found, and where they are broken."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lightning_emseg.metrics.boundary.planes import check_is_plane
from lightning_emseg.metrics.boundary.runs import runs
from lightning_emseg.metrics.boundary.skeleton import skeleton
from lightning_emseg.metrics.boundary.tolerance import within
from lightning_emseg.metrics.comparison import Comparison, Mask
from lightning_emseg.metrics.mosaic_score import MosaicScore
from lightning_emseg.metrics.threads import at_once

SHORTEST_BREAK_NM = 40.0
"""Length in nm that a gap must exceed to count as a break, in panels and error maps."""


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


def skeleton_recall(tolerance_nm: float, shortest_break_nm: float) -> MosaicScore:
    """Skeleton recall, skeleton precision, breaks and breaks a millimeter (NaN without a true skeleton).

    Args:
        tolerance_nm: Distance from a skeleton up to which foreground covers it.
        shortest_break_nm: Length that breaks must exceed to count.
    """
    columns = ("skeleton_recall", "skeleton_precision", "breaks", "breaks_per_mm")
    row = partial(_row, tolerance_nm=tolerance_nm, shortest_break_nm=shortest_break_nm)
    return MosaicScore(columns, row, planes_only=True)


def _row(comparison: Comparison, tolerance_nm: float, shortest_break_nm: float) -> tuple[float, ...]:
    check_is_plane(comparison, "SkeletonRecall", "thins")
    of_truth, of_prediction = at_once(
        [
            lambda: skeleton(comparison.truth),
            lambda: skeleton(comparison.probability >= comparison.level) & comparison.known,
        ],
        comparison.threads,
    )
    found = within(comparison.distance_to_prediction_nm, tolerance_nm)
    gaps = breaks(of_truth, found, comparison.pixel_size_nm, shortest_break_nm)
    recall = share_covered(of_truth, found)
    precision = share_covered(of_prediction, within(comparison.distance_to_truth_nm, tolerance_nm))
    return recall, precision, float(gaps.number), gaps.per_mm
