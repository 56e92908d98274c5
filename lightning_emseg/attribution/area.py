"""The area of an attribution field."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
THRESHOLDS = (0.01, 0.05, 0.1)
"""Of the tables; 0.01 is the one that U-RISC's figures are of."""
NORMALISATION = "the largest magnitude in the window is 1"
"""What :func:`normalised` does, for records."""


def normalised(attributions: Values) -> Values:
    """Attributions divided by the largest magnitude, so that they lie in −1 … 1; a field of zeros stays as it is.

    Shi et al. 2021 give the range and not the rule; S_k depends on it.
    """
    largest = float(np.abs(attributions).max(initial=0))
    return attributions / np.float32(largest) if largest > 0 else attributions


def pixels_above(field: Values, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Numbers of pixels, ``int64 (K,)``, whose contribution is greater than each threshold.

    Args:
        field: Normalised field, any shape.
        thresholds: K values k.
    """
    # From the largest on: NaN is sorted last and thus not counted, as it is greater than nothing.
    falling = np.sort(-field, axis=None)
    # Compared in the field's precision, as `field > k` is.
    return np.searchsorted(falling, -np.asarray(thresholds, field.dtype), side="left")


def area(field: Values, k: float, pixel_size_nm: Sequence[float]) -> float:
    """S_k, the area of what contributes more than k to a decision (Shi et al. 2021, eq. 10).

    Args:
        field: Normalised field, −1 … 1.
        k: Threshold; with k ≥ 0 only evidence *for* the foreground counts.
        pixel_size_nm: One value an axis, after any resize; pixels need not be square.

    Returns:
        Area in nm², of fields of three axes the volume in nm³.

    >>> area(np.array([[0.5, 0.01], [-1.0, 0.02]], np.float32), 0.01, (4.0, 2.0))
    16.0
    """
    return float(pixels_above(field, [k])[0] * np.prod(np.asarray(pixel_size_nm, np.float64)))
