"""Surfaces of masks, and how far their pixels are from another mask's surface."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.metrics.comparison import Distances, Mask, distance_to

Places = NDArray[np.intp]

# Pixels along each axis, by the number of axes, within which the nearest surface is looked for before all distances
# are computed: some 3,000 offsets.
_REACH = {2: 32, 3: 9}


def surface(mask: Mask) -> Mask:
    """Pixels of a mask with a face neighbour (4 in 2D, 6 in 3D) that is not in it or lies outside of the image.

    This is the mask without its erosion by a cross, as MONAI's ``get_mask_edges`` and medpy have it.

    Args:
        mask: ``bool (*S)``, 2D or 3D.

    Returns:
        ``bool (*S)``, a subset of the mask.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        of_inner, of_mask = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        of_inner[1:] &= of_mask[:-1]
        of_inner[:-1] &= of_mask[1:]
        of_inner[:1] = of_inner[-1:] = False
    found: Mask = np.logical_xor(mask, inner, out=inner)
    return found


def surface_distances(
    mask: Mask,
    other: Mask,
    known: Mask | None,
    distance_to_other_nm: Distances,
    pixel_size_nm: Sequence[float],
    threads: int = 2,
) -> Distances:
    """Distance of every surface pixel of a mask to the nearest surface pixel of another, between centres.

    Outside of the other mask its nearest pixel is one of its surface, so a distance to the mask will do. Inside,
    membranes being thin, the surface is looked for among the nearest pixels; only where much remains is a second
    distance transform made.

    Args:
        mask: ``bool (*S)``, 2D or 3D, without ignored pixels.
        other: ``bool (*S)``, likewise.
        known: ``bool (*S)``; where a mask ends because nothing is known beyond, there is no surface to measure from.
            None where all is known.
        distance_to_other_nm: ``float32 (*S)`` in nm, to the nearest pixel of ``other``: 0 within it.
        pixel_size_nm: One value an axis.
        threads: That a distance transform may use.

    Returns:
        ``float32 (N,)`` in nm, 0 or more, in the order of the pixels; infinite if ``other`` is empty.

    Raises:
        KeyError: if masks of neither two nor three axes overlap.
    """
    measured = surface(mask) if known is None else surface(mask | ~known) & mask
    places = np.flatnonzero(measured)
    distances: Distances = distance_to_other_nm.ravel()[places]
    inside = np.flatnonzero(other.ravel()[places])
    if inside.size:
        distances[inside] = _within(surface(other), places[inside], pixel_size_nm, threads)
    return distances


def _within(target: Mask, places: Places, pixel_size_nm: Sequence[float], threads: int) -> Distances:
    """Distance of pixels, by their flat positions, to the target, which is near most of them."""
    reach = _REACH[target.ndim]
    padded = np.pad(target, reach)
    flat, steps = padded.ravel(), np.array(padded.strides)
    # Positions in the padded target, and numbers, of the pixels that are still to be found.
    at = steps @ (np.stack(np.unravel_index(places, target.shape)) + reach)
    left = np.arange(places.size)
    distances = np.full(places.size, np.inf, np.float32)
    spent = 0
    for offset, distance in _nearest_first(reach, pixel_size_nm):
        hit = flat[at + steps @ offset]
        distances[left[hit]] = distance
        at, left = at[~hit], left[~hit]
        spent += hit.size
        # By then a transform of everything would have been cheaper.
        if not left.size or spent > target.size:
            break
    if left.size:
        distances[left] = distance_to(target, pixel_size_nm, threads).ravel()[places[left]]
    return distances


def _nearest_first(reach: int, pixel_size_nm: Sequence[float]) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Offsets in px and their lengths in nm, shortest first, up to where some would lie beyond the reach."""
    offsets = np.array(list(product(range(-reach, reach + 1), repeat=len(pixel_size_nm))))
    lengths = np.sqrt(((offsets * np.array(pixel_size_nm)) ** 2).sum(axis=1))
    for index in np.argsort(lengths, kind="stable"):
        if lengths[index] >= (reach + 1) * min(pixel_size_nm):
            return
        yield offsets[index], float(lengths[index])
