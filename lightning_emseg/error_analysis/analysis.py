"""Everything that is known of the errors of one mosaic."""

import math
from dataclasses import dataclass

from lightning_emseg.error_analysis.error_map import Codes, error_codes
from lightning_emseg.error_analysis.objects import ErrorObjects, breaks, spurious_membranes
from lightning_emseg.metrics.boundary.breaks import SHORTEST_BREAK_NM
from lightning_emseg.metrics.boundary.runs import runs
from lightning_emseg.metrics.boundary.skeleton import skeleton
from lightning_emseg.metrics.comparison import Comparison

SPURIOUS_THICKNESS_NM = 10.0
"""By default a false membrane is at least as large as a break of this thickness, about that of a membrane."""


@dataclass(frozen=True)
class ErrorAnalysis:
    """Errors of one mosaic.

    Attributes:
        codes: Error map, see :func:`lightning_emseg.error_analysis.error_map.error_codes`.
        tolerance_nm: Up to which an error is one of thickness.
        spurious: False membranes.
        breaks: Gaps in true membranes; ``None`` for a volume.
        skeleton_nm: Length of the truth's skeleton in nm; NaN for a volume.
    """

    codes: Codes
    tolerance_nm: float
    spurious: ErrorObjects
    breaks: ErrorObjects | None
    skeleton_nm: float


def analyse(
    comparison: Comparison,
    tolerance_nm: float,
    shortest_break_nm: float = SHORTEST_BREAK_NM,
    smallest_spurious_nm: float | None = None,
) -> ErrorAnalysis:
    """Find the errors of one mosaic.

    Args:
        comparison: Truth and prediction, 2D or 3D.
        tolerance_nm: Up to which an error is one of thickness, in nm.
        shortest_break_nm: A gap is a break when it is longer than this, in nm.
        smallest_spurious_nm: Area in nm² (volume in nm³) from which on a false membrane is one; by default that of
            a line of 40 nm × 10 nm, in a volume 40 nm × 40 nm × 10 nm.

    Raises:
        UserError: if the tolerance is negative or no finite number.
    """
    codes = error_codes(comparison, tolerance_nm)
    truth, size_nm, axes = comparison.truth, comparison.pixel_size_nm, codes.ndim
    # Where the caller does not keep it either, its distances, 8 bytes a pixel, make room.
    del comparison
    if smallest_spurious_nm is None:
        smallest_spurious_nm = SHORTEST_BREAK_NM ** (axes - 1) * SPURIOUS_THICKNESS_NM
    if axes == 3:
        return ErrorAnalysis(
            codes, tolerance_nm, spurious_membranes(codes, size_nm, smallest_spurious_nm), None, math.nan
        )
    lines = skeleton(truth)
    gaps = breaks(codes, lines, size_nm, shortest_break_nm)
    whole = float(runs(lines, size_nm).lengths_nm.sum())
    # Last, as it takes the most memory.
    spurious = spurious_membranes(codes, size_nm, smallest_spurious_nm)
    return ErrorAnalysis(codes, tolerance_nm, spurious, gaps, whole)
