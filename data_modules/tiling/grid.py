"""Where tiles lie in a plane."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.tile_set import SIDE

SMALLEST = 112
"""Side in px below which a remainder is dropped (Conrad and Narayan 2021)."""


@dataclass(frozen=True)
class Grid:
    """Tiles of a plane, which do not overlap.

    Attributes:
        kept: ``int32 (n, 4)``: first row and column, height and width in px, row by row.
        dropped: ``int32 (m, 4)``: remainders with a side below 112 px.
    """

    kept: NDArray[np.int32]
    dropped: NDArray[np.int32]


def grid_of(height: int, width: int) -> Grid:
    """Cut a plane into tiles of 224 × 224 px and remainders, which together cover it exactly once."""
    pieces = np.asarray(
        [
            (y, x, min(SIDE, height - y), min(SIDE, width - x))
            for y in range(0, height, SIDE)
            for x in range(0, width, SIDE)
        ],
        np.int32,
    ).reshape(-1, 4)
    large = (pieces[:, 2:] >= SMALLEST).all(axis=1)
    return Grid(pieces[large], pieces[~large])
