"""How much of a tile is uniform: empty resin, padding, saturated or homogeneously stained areas."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

WINDOW_PX = 15
"""Side of the neighbourhood whose grey values are compared."""


def uniform_share(tile: NDArray[np.uint8], std: float) -> float:
    """Share of pixels whose neighbourhood of 15 × 15 px varies by less than ``std``.

    Conrad and Narayan (2021) call a tile uninformative if 80 % or more of its area is of uniform intensity, and leave
    it to the eye what that is; this is our rule.

    Args:
        tile: ``uint8 (Y, X)``; mirrored beyond its edges.
        std: Standard deviation (ddof 0) in grey levels below which a neighbourhood is uniform.

    Returns:
        0–1.
    """
    grey = tile.astype(np.float64)
    mean = uniform_filter(grey, WINDOW_PX, mode="reflect")
    variance = uniform_filter(grey**2, WINDOW_PX, mode="reflect") - mean**2
    # Running sums leave rounding of 1e-10 behind; whole grey levels differ by far more.
    return float(np.mean(variance < std**2 - 1e-6))
