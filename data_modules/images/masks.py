"""Values of label images, and the share of them that a binary mask may not have."""

import numpy as np

from data_modules.images.image import Pixels

MAX_BETWEEN = 0.01
"""Share of pixels that may be far from both extremes of a mask, for antialiased edges."""
_NEAR = 1 / 8
"""How far from an extreme a value may be, as a share of the range; JPEG noise reaches 1/32, antialiased ends more."""
_ROWS = 512


def value_counts(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Distinct values, ascending, and how often each occurs.

    Args:
        pixels: ``(Y, X)`` or ``(Z, Y, X)``, any real data type.
    """
    bands = (pixels[start : start + _ROWS] for start in range(0, len(pixels), _ROWS))
    if pixels.dtype.kind in "bu" and pixels.dtype.itemsize <= 2:
        # Many times faster than sorting a mosaic; bands, because bincount makes a copy of 8 bytes a pixel.
        length = 2 ** (8 * pixels.dtype.itemsize)
        total = sum((np.bincount(band.ravel(), minlength=length) for band in bands), np.zeros(length, np.int64))
        values = np.flatnonzero(total)
        return values, total[values]
    parts = [np.unique(band, return_counts=True) for band in bands]
    values, where = np.unique(np.concatenate([part[0] for part in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, where, np.concatenate([part[1] for part in parts]))
    return values, counts


def share_between(values: Pixels, counts: Pixels, top: float) -> float:
    """Compute the share of pixels that are farther than an eighth of the range from 0 and from the upper extreme.

    Args:
        values: Values that occur.
        counts: How often each does; at least one pixel in all.
        top: Upper extreme: 1, 255 or 65535.

    >>> share_between(np.array([0, 31, 128, 255]), np.array([5, 2, 1, 2]), 255)
    0.1
    """
    between = (values > top * _NEAR) & (values < top * (1 - _NEAR))
    return float(counts[between].sum() / counts.sum())
