"""The windows of a mosaic with the most real errors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.grid import Grid
from lightning_emseg.error_analysis.error_map import Codes, real_errors

_STEPS = 8
"""Windows are tried at every eighth of their side."""
_BAND = 1024


@dataclass(frozen=True)
class Region:
    """A window of a mosaic.

    Attributes:
        origin: First pixel, ``(y, x)`` in px of the mosaic.
        size: ``(height, width)`` in px.
        error_px: Number of pixels of real errors in it, those beyond the tolerance.
    """

    origin: tuple[int, int]
    size: tuple[int, int]
    error_px: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing the mosaic."""
        (y, x), (height, width) = self.origin, self.size
        return slice(y, y + height), slice(x, x + width)


def worst_regions(codes: Codes, side: int = 256, most: int = 6) -> list[Region]:
    """Windows ranked by their real errors, found greedily: each is the worst that overlaps none before it.

    Windows begin at multiples of an eighth of their side, or end at the far border.

    Args:
        codes: Error map ``uint8 (Y, X)``.
        side: Of a window in px, at least 1; a smaller mosaic is one window along that axis.
        most: Largest number of windows.

    Returns:
        Worst first, of equal ones the upper left first; none without a real error.

    Raises:
        ValueError: unless the map has two axes.
    """
    if codes.ndim != 2:
        raise ValueError(f"regions are windows of a plane, got an error map of {codes.shape} px")
    size = (min(side, codes.shape[0]), min(side, codes.shape[1]))
    ys, xs = (np.array(starts) for starts in Grid(codes.shape, size, 1 - 1 / _STEPS).starts)
    left = _errors(codes, ys, xs, size)
    regions: list[Region] = []
    while len(regions) < most and left.max() > 0:
        row, column = np.unravel_index(left.argmax(), left.shape)
        y, x = int(ys[row]), int(xs[column])
        regions.append(Region((y, x), size, int(left[row, column])))
        left[np.ix_(abs(ys - y) < size[0], abs(xs - x) < size[1])] = 0
    return regions


def _errors(codes: Codes, ys: NDArray[np.int64], xs: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Number of pixels of real errors in every window, ``int64 (len(ys), len(xs))``."""
    rows = np.zeros((codes.shape[0] + 1, len(xs)), np.int64)
    for start in range(0, codes.shape[0], _BAND):
        band = codes[start : start + _BAND]
        sums = np.zeros((len(band), band.shape[1] + 1), np.int32)
        np.cumsum(real_errors(band), axis=1, dtype=np.int32, out=sums[:, 1:])
        rows[start + 1 : start + 1 + len(band)] = sums[:, xs + size[1]] - sums[:, xs]
    np.cumsum(rows, axis=0, out=rows)
    windows: NDArray[np.int64] = rows[ys + size[0]] - rows[ys]
    return windows
