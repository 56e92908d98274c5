"""Connected runs of a skeleton and their lengths."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_emseg.metrics.comparison import Mask

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Runs of lines in a plane.

    Attributes:
        places: ``int64 (N,)``, ascending positions of all pixels in the flattened plane.
        numbers: ``int32 (N,)``, the run of each pixel, from 0.
        lengths_nm: ``float64 (R,)``.
    """

    places: Places
    numbers: NDArray[np.int32]
    lengths_nm: NDArray[np.float64]


def runs(lines: Mask, pixel_size_nm: Sequence[float]) -> Runs:
    """8-connected runs of lines one pixel wide.

    A run is as long as the links between the centres of its pixels, and one pixel for its two ends. A diagonal link
    does not count where the two pixels are linked over a common face neighbour already.

    Args:
        lines: ``bool (Y, X)``, few of it set.
        pixel_size_nm: Of Y and X.

    Returns:
        Runs, ordered by their first pixels.
    """
    width = lines.shape[1]
    places = np.flatnonzero(lines)
    flat = np.pad(lines, ((0, 1), (1, 1))).ravel()
    # In a frame of empty pixels no link can lead round the end of a row.
    framed = places + 2 * (places // width) + 1
    frame = width + 2
    face = {step: flat[framed + step] for step in (-1, 1, frame)}
    diagonal = math.hypot(*pixel_size_nm)
    links = {
        1: (face[1], pixel_size_nm[1]),
        frame: (face[frame], pixel_size_nm[0]),
        frame + 1: (flat[framed + frame + 1] & ~face[1] & ~face[frame], diagonal),
        frame - 1: (flat[framed + frame - 1] & ~face[-1] & ~face[frame], diagonal),
    }
    starts = [np.flatnonzero(present) for present, _ in links.values()]
    ends = [np.searchsorted(framed, framed[start] + step) for start, step in zip(starts, links, strict=True)]
    lengths = np.repeat([length for _, length in links.values()], [start.size for start in starts])
    start, end = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(start.size, np.bool_), (start, end)), shape=(places.size, places.size))
    number, numbers = connected_components(graph, directed=False)
    linked = np.bincount(numbers[start], weights=lengths, minlength=number)
    return Runs(places, numbers, linked.astype(np.float64) + sum(pixel_size_nm) / 2)
