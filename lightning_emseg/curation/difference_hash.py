"""The 64-bit difference hash of a tile, by which near-duplicates are found."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 8
_WEIGHTS = np.uint64(1) << np.arange(SIZE * SIZE - 1, -1, -1, dtype=np.uint64)


def difference_hash(tile: NDArray[np.uint8]) -> np.uint64:
    """Whether each pixel of the tile, shrunk to 8 × 9, is brighter than the one to its left.

    As in the package imagehash (hash size 8), which Conrad and Narayan (2021) used: Lanczos, rows from the top, the
    first comparison in the highest bit.

    Args:
        tile: ``uint8 (Y, X)``.

    Returns:
        64 bits; 0 for a constant tile.
    """
    small = np.asarray(Image.fromarray(tile).resize((SIZE + 1, SIZE), Image.Resampling.LANCZOS))
    brighter = small[:, 1:] > small[:, :-1]
    return np.uint64(_WEIGHTS[brighter.ravel()].sum(dtype=np.uint64))
