"""Borders between cells thinned to one pixel, as ISBI 2012 does before it scores a proposal."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.segmentation.contingency import Labels

_Flat = NDArray[np.unsignedinteger[Any]]
_Open = NDArray[np.bool_]
_Indices = NDArray[np.int64]

# Small enough for the caches.
_PIECE = 1 << 16


def thin_borders(cells: Labels, threads: int = 2) -> Labels:
    """Let cells grow into their borders at one speed until lines of one pixel separate them.

    This is what the official evaluation does (the revised scoring of Arganda-Carreras et al. 2015, Frontiers in
    Neuroanatomy 9:142, and its published script "Segmentation evaluation after border thinning" for Fiji): the
    4-connected cells of the *proposal* are grown by the classic watershed with dams (Vincent and Soille 1991) of the
    binary map, which is a flooding in steps over faces. The *truth* is not thinned: its cells are 4-connected
    components, and scores are restricted to them. A border that separates nothing (a loose end, an island in a cell)
    is flooded, which homotopic thinning would leave as a line.

    A pixel takes the label of its neighbours one step nearer to a cell, or, of neighbours as near as itself, of
    those before it; where they have several it stays border. Fiji takes pixels of one step in the order of its queue,
    from left to right, which moves dams of borders of even width to one side; here those whose coordinates have an
    even sum come first, which is fair to both sides and lets all of them be computed at once.

    Measured on 5 held-out sections of ISBI 2012, predicted by a LinkNet, at 5 thresholds each: V-Rand and V-Info differ
    from those in Fiji's order by at most 0.0004 (0.0001 on average), from those after homotopic thinning (with borders
    held at the edge of the image) by at most 0.002 and 0.003 at 2 thresholds, and from those of borders as they are by
    up to 0.10 and 0.15.

    Args:
        cells: Labels ``(*S)`` of any integer type, with any number of axes; 0 is border. Instances
            that touch may stay so. Every step is one pixel along an axis, whatever its size in nm.
        threads: That label pieces of a front at the same time; the result does not depend on it.

    Returns:
        Labels ``(*S)`` of the same type: the cells, grown; 0 on lines of (mostly) one pixel. Where no cell exists,
        one that fills everything, as a watershed has it.
    """
    if not cells.any():
        return np.ones_like(cells)
    # With odd sides, a pixel's index in memory has the parity of the sum of its coordinates, each 1 larger here.
    padded = [side + 2 + (side + 1) % 2 for side in cells.shape]
    inner = tuple(slice(1, 1 + side) for side in cells.shape)
    unsigned = np.dtype(f"u{cells.itemsize}")
    grown = np.zeros(padded, unsigned)
    grown[inner] = cells.view(unsigned)
    border = np.zeros(padded, np.bool_)
    border[inner] = cells == 0
    _flood(
        grown.reshape(-1), border.reshape(-1), [int(np.prod(padded[axis + 1 :])) for axis in range(cells.ndim)], threads
    )
    return grown[inner].view(cells.dtype)


def _flood(flat: _Flat, unseen: _Open, strides: list[int], threads: int) -> None:
    """Label the border in place, step by step.

    Pixels of one parity are no neighbours of each other, so that pieces of a front may be labelled in any order or at
    once. Two threads may find the same pixel: it is labelled twice alike, and leads on once.
    """
    steps = [sign * stride for stride in strides for sign in (-1, 1)]

    def label(part: _Indices) -> None:
        flat[part] = _common_label(flat, part, steps)

    front = _shore(flat, unseen, strides)
    with ThreadPoolExecutor(threads) as pool:
        while front.size:
            pieces = [front[start : start + _PIECE] for start in range(0, front.size, _PIECE)]
            odd = [((piece + len(strides)) & 1).astype(np.bool_) for piece in pieces]
            list(pool.map(label, [piece[~late] for piece, late in zip(pieces, odd, strict=True)]))
            list(pool.map(label, [piece[late] for piece, late in zip(pieces, odd, strict=True)]))
            front = np.concatenate(list(pool.map(lambda piece: _next(unseen, piece, steps), pieces)))


def _shore(flat: _Flat, unseen: _Open, strides: list[int]) -> _Indices:
    """Border pixels beside a cell, which are seen from now on."""
    land = flat != 0
    beside = np.zeros_like(land)
    for stride in strides:
        beside[stride:] |= land[:-stride]
        beside[:-stride] |= land[stride:]
    beside &= unseen
    unseen ^= beside
    return np.flatnonzero(beside)


def _common_label(flat: _Flat, pixels: _Indices, steps: list[int]) -> _Flat:
    """The label of the labelled neighbours of each pixel; 0 where these have several or do not exist."""
    highest = np.zeros(pixels.size, flat.dtype)
    lowest = ~highest
    for step in steps:
        label = flat[pixels + step]
        np.maximum(highest, label, out=highest)
        # Unsigned, so that no label (0) is above all others.
        label -= 1
        np.minimum(lowest, label, out=lowest)
    lowest += 1
    highest[lowest != highest] = 0
    return highest


def _next(unseen: _Open, front: _Indices, steps: list[int]) -> _Indices:
    """Unseen border pixels beside a piece of the front, each once, which are seen from now on."""
    found = []
    for step in steps:
        reached = front + step
        reached = reached[unseen[reached]]
        unseen[reached] = False
        found.append(reached)
    return np.concatenate(found)
