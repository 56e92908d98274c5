"""Whether two tiles show the same: a hash may be near by chance, pixels are not."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 56
"""Of the shrunken tiles that are correlated, in px: noise of the detector is averaged away, cells are not."""


def fingerprint(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A tile shrunk to 56 × 56 px, without mean and of norm 1; zeros where it is constant.

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        ``float32 (3136,)``.
    """
    small = Image.fromarray(tile).convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(small, np.float32).ravel()
    values = values - values.mean(dtype=np.float64).astype(np.float32)
    norm = float(np.linalg.norm(values))
    # Half a grey level of rounding is no picture.
    return values / np.float32(norm) if norm > 1e-3 * SIDE else np.zeros_like(values)


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Normalised cross-correlation of two fingerprints, −1 to 1; 1 for two constant tiles, 0 for one."""
    if not one.any() and not other.any():
        return 1.0
    return float(np.dot(one, other))
