"""Four statistics by which a random forest tells informative tiles from others."""

import numpy as np
from numpy.typing import NDArray
from skimage.feature import canny, local_binary_pattern
from skimage.filters.rank import entropy, geometric_mean

NAMES = ("local binary pattern std", "entropy std", "geometric mean median", "canny mean")
VERSION = "lbp 8, 8; entropy 7; geometric mean 11; canny 1"
"""Of the definition; statistics that were kept under another one are computed again."""

_ENTROPY_PX, _MEAN_PX = 7, 11


def statistics(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The statistics of Conrad and Narayan (2021); the paper names them, their published code has the parameters.

    Standard deviation of the local binary pattern (8 points at 8 px), standard deviation of the local entropy (7 × 7
    px, in bits), median of the geometric mean (11 × 11 px, in grey levels) and share of pixels on Canny's edges (σ 1
    px).

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        ``float32 (4,)`` in the order of :data:`NAMES`.
    """
    pattern = local_binary_pattern(tile, 8, 8)
    spread = entropy(tile, np.ones((_ENTROPY_PX, _ENTROPY_PX), np.uint8))
    level = geometric_mean(tile, np.ones((_MEAN_PX, _MEAN_PX), np.uint8))
    return np.array([pattern.std(), spread.std(), np.median(level), canny(tile, sigma=1).mean()], np.float32)
