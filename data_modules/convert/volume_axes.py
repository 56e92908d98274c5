"""Whether a volume is in the order Z, Y, X, as far as its shape and its voxel size can tell."""

from collections.abc import Sequence

from data_modules.tiling.units import is_isotropic

_COARSER = 1.2
"""How many times coarser than both others a voxel is along the axis of the sections, at least."""
_FEWER = 2
"""How many times fewer voxels than both others an axis has that must be that of the sections: stacks are cut out of
wide sections, but a stack of more sections than a crop of them has rows is nothing unusual."""


def doubtful_axes(shape: Sequence[int], pixel_size_nm: Sequence[float]) -> str | None:
    """What speaks against the order Z, Y, X.

    Sections are thicker than their pixels are wide, and there are fewer of them than they have rows or columns: the
    axis of the coarsest voxels should be the first, and no other should have far fewer voxels. Isotropic voxels, or
    such that are coarse along two axes, tell nothing.

    Args:
        shape: Of the volume in px, three sides, said to be Z, Y, X.
        pixel_size_nm: Of its voxels along the same axes.

    Returns:
        A sentence with shape and voxel size, ``None`` where nothing is wrong.

    >>> doubtful_axes((125, 1250, 1250), (40, 4, 4))
    >>> doubtful_axes((700, 512, 64), (5, 5, 5))
    """
    sizes = tuple(float(size) for size in pixel_size_nm)
    if is_isotropic(sizes):
        return None
    coarse = max(range(3), key=sizes.__getitem__)
    if sizes[coarse] < _COARSER * sorted(sizes)[1]:
        return None
    few = min(range(3), key=shape.__getitem__)
    if coarse != 0:
        what = f"{sizes[coarse]:g} nm, the coarsest side, is that of axis {coarse}"
    elif few != 0 and sorted(shape)[1] >= _FEWER * shape[few]:
        what = f"axis {few} has by far the fewest voxels"
    else:
        return None
    sides = ", ".join(f"{size:g}" for size in sizes)
    return f"{tuple(shape)} px of ({sides}) nm cannot well be Z, Y, X: sections lie along axis 0, but {what}"
