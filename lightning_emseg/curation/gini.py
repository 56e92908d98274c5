"""How unequally sources contribute to a set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def lorenz_curve(counts: Sequence[int]) -> NDArray[np.float64]:
    """Share of all tiles that the sources with fewest of them have together.

    Args:
        counts: Tiles of each source, 0 for those that have none left; not all of them 0.

    Returns:
        ``float64 (sources + 1,)`` from 0 to 1: entry ``i`` for the ``i`` smallest sources.
    """
    total = np.concatenate([[0], np.cumsum(np.sort(np.asarray(counts, np.int64)))])
    return np.asarray(total / total[-1], np.float64)


def gini(counts: Sequence[int]) -> float:
    """Gini coefficient: twice the area between the line of equality and the Lorenz curve (Conrad and Narayan 2021).

    Args:
        counts: As in :func:`lorenz_curve`.

    Returns:
        0 where all ``n`` sources have the same number of tiles, ``1 − 1/n`` where one has all of them.
    """
    curve = lorenz_curve(counts)
    return float(1 - (curve[1:] + curve[:-1]).sum() / len(counts))


def sources_with(counts: Sequence[int], share: float) -> float:
    """Least share of the sources, 0–1, that together have ``share`` of the tiles."""
    largest_first = np.cumsum(np.sort(np.asarray(counts, np.int64))[::-1])
    return float((np.searchsorted(largest_first, share * largest_first[-1]) + 1) / len(counts))
