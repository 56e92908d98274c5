"""Telling masks from other images, and their bright pixels from dark ones."""

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from lightning_emseg.scoring.sources import Pixels

_NEAR = 1 / 8
"""How far from an extreme a noisy value may be, as a share of the range; JPEG leaves 1/32."""
_MOST_BETWEEN = 0.01
"""Share of pixels that may be farther from both, for antialiased edges."""
_FEW = 8
"""Values up to which those off the extremes are classes and no noise."""
_TOPS = (1, 255, 65535)


def two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """Bright pixels of a mask that has no values but 0 and 1, or 0 and 255, or 0 and 65535.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.

    >>> two_values(np.array([0, 255, 255], np.uint8))
    array([False,  True,  True])
    >>> two_values(np.array([0, 3, 1], np.uint8)) is None
    True
    """
    lowest, highest = pixels.min(), pixels.max()
    if lowest not in (0, *_TOPS) or highest not in (0, *_TOPS):
        return None
    bright: NDArray[np.bool_] = pixels == max(highest, 1)
    dark = pixels == 0
    return bright if (bright | dark).all() else None


def nearly_two_values(pixels: Pixels) -> NDArray[np.bool_] | None:
    """The same where JPEG has left noise: of whole numbers, up to 1 % may be far from both extremes.

    Args:
        pixels: Any shape and real type.

    Returns:
        ``bool`` of the same shape, or ``None`` if this is no mask.
    """
    exact = two_values(pixels)
    if exact is not None or pixels.dtype not in (np.uint8, np.uint16):
        return exact
    lowest, highest = pixels.min(), pixels.max()
    top = 255 if highest <= 255 else 65535
    if lowest > top * (1 - _NEAR):
        return np.ones(pixels.shape, bool)
    counts = np.bincount(pixels.ravel(), minlength=top + 1)
    # Dark values alone may be classes as well.
    if highest < top / 2 or np.count_nonzero(counts) <= _FEW:
        return None
    between = counts[int(top * _NEAR) + 1 : int(top * (1 - _NEAR)) + 1].sum()
    return pixels > top / 2 if between <= _MOST_BETWEEN * pixels.size else None


def is_mask_with_ignored(pixels: Pixels) -> bool:
    """Whether the values are those of the store: all of 0, 1 and 255, and no others.

    >>> is_mask_with_ignored(np.array([0, 1, 255, 0]))
    True
    >>> is_mask_with_ignored(np.array([0, 255]))
    False
    """
    if pixels.dtype.kind not in "iu" or pixels.max() != IGNORE:
        return False
    zero, one = pixels == 0, pixels == 1
    return bool(zero.any() and one.any() and (zero | one | (pixels == IGNORE)).all())
