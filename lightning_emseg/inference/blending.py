"""Weights with which overlapping tiles are averaged."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_modules.grid import Grid

Blend = Literal["constant", "cosine", "gaussian"]
Window = NDArray[np.float64]


def window(length: int, blend: Blend) -> Window:
    """Weights along one axis of a tile, all positive.

    Args:
        length: Of the tile in px.
        blend: ``constant`` is the plain mean of U-RISC's published code; ``cosine`` is a Hann window;
            ``gaussian`` has σ = length / 8, as nnU-Net and MONAI use.

    >>> window(4, "constant")
    array([1., 1., 1., 1.])
    """
    offset = (np.arange(length) + 0.5) / length - 0.5
    if blend == "constant":
        return np.ones(length)
    if blend == "cosine":
        return np.cos(np.pi * offset) ** 2
    return np.exp(-0.5 * (offset * 8) ** 2)


def normalised_windows(grid: Grid, blend: Blend) -> list[dict[int, Window]]:
    """For each axis the weights of the tile at each origin, such that all tiles' weights add up to 1 at every pixel.

    Weights are products over the axes, and so are their sums, because the tiles form a grid. Normalising here
    leaves nothing to divide by when tiles are blended.
    """
    axes = []
    for starts, length, tile in zip(grid.starts, grid.shape, grid.tile, strict=True):
        weights = window(tile, blend)
        total = np.zeros(max(length, tile))
        for start in starts:
            total[start : start + tile] += weights
        axes.append({start: weights / total[start : start + tile] for start in starts})
    return axes
