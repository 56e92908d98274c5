"""A score with the parts that tell its two kinds of error apart."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SplitMerge:
    """Agreement of two segmentations, 1 at best, NaN where the truth has no segment.

    Attributes:
        f: Both kinds of error together: the harmonic mean of the other two.
        split: Falls as the prediction splits true segments (a recall).
        merge: Falls as the prediction merges true segments (a precision).
    """

    f: float
    split: float
    merge: float


NO_SCORE = SplitMerge(math.nan, math.nan, math.nan)
