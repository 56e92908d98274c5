"""Distances between surfaces and between clefts."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lightning_emseg.metrics.mosaic_pair import Distances, Mask, MosaicPair, MosaicScore, at_once, distance_to

Places = NDArray[np.intp]

# Pixels along each axis, by the number of axes, within which the nearest surface is looked for before all distances
# are computed: some 3,000 offsets.
_REACH = {2: 32, 3: 9}


def surface(mask: Mask) -> Mask:
    """Find pixels of a mask with a face neighbour (4 in 2D, 6 in 3D) outside of it or of the image.

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
    """Measure the distance of every surface pixel of a mask to the nearest of another, between centres.

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
        threads: Number of threads of a distance transform.

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
    """Measure the distance of pixels, by flat positions, to the target, which is near most of them."""
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
    """List offsets in px and lengths in nm, shortest first, up to where some would lie beyond the reach."""
    offsets = np.array(list(product(range(-reach, reach + 1), repeat=len(pixel_size_nm))))
    lengths = np.sqrt(((offsets * np.array(pixel_size_nm)) ** 2).sum(axis=1))
    for index in np.argsort(lengths, kind="stable"):
        if lengths[index] >= (reach + 1) * min(pixel_size_nm):
            return
        yield offsets[index], float(lengths[index])


def average_symmetric_surface_distance(from_truth: Distances, from_prediction: Distances) -> float:
    """Compute the mean distance of all surface pixels of either mask to the surface of the other (ASSD).

    Source: Heimann et al., IEEE TMI 28 (2009), section III-C; as MONAI's ``compute_average_surface_distance`` with
    ``symmetric=True`` and medpy's ``assd`` up to 0.3.

    Args:
        from_truth: ``float32 (N,)``, 0 or more, in any unit of length: of the N surface pixels of the truth to the
            surface of the prediction, see :func:`~lightning_emseg.metrics.boundary.distances.surface_distances`;
            infinite where there is no prediction.
        from_prediction: ``float32 (M,)``, 0 or more, in the same unit: of the prediction's to the truth.

    Returns:
        0 or more, in the same unit; infinite where one mask is empty, NaN where both are.
    """
    number = from_truth.size + from_prediction.size
    total = from_truth.sum(dtype=np.float64) + from_prediction.sum(dtype=np.float64)
    return float(total / number) if number else math.nan


def hausdorff95(from_truth: Distances, from_prediction: Distances) -> float:
    """Compute the larger one of the 95th percentiles of the distances in either direction (HD95).

    Percentiles of each direction first, as MONAI, DeepMind's surface-distance and the BraTS challenge have it; medpy
    takes that of all distances together. Between values it is interpolated linearly.

    Source: the partial Hausdorff distance of Huttenlocher, Klanderman and Rucklidge, IEEE PAMI 15 (1993), with the
    quantile 0.95 in either direction; as MONAI's ``compute_hausdorff_distance`` with ``percentile=95``.

    Args:
        from_truth: Distances as of :func:`average_symmetric_surface_distance`: ``float32 (N,)``, 0 or more.
        from_prediction: ``float32 (M,)``, 0 or more, in the same unit.

    Returns:
        0 or more, in the same unit; infinite where one mask is empty, NaN where both are.
    """
    return max((_percentile95(found) for found in (from_truth, from_prediction) if found.size), default=math.nan)


def _percentile95(distances: Distances) -> float:
    # Interpolating between infinities gives NaN.
    return math.inf if np.isinf(distances).any() else float(np.percentile(distances, 95))


def _surface_row(pair: MosaicPair) -> tuple[float, ...]:
    truth, predicted = pair.truth, pair.predicted
    known = None if pair.all_known else pair.known
    size, threads = pair.pixel_size_nm, pair.threads
    to_prediction, to_truth = pair.distance_to_prediction_nm, pair.distance_to_truth_nm
    from_truth, from_prediction = at_once(
        [
            partial(surface_distances, truth, predicted, known, to_prediction, size, threads),
            partial(surface_distances, predicted, truth, known, to_truth, size, threads),
        ],
        threads,
    )
    return average_symmetric_surface_distance(from_truth, from_prediction), hausdorff95(from_truth, from_prediction)


SURFACE_DISTANCES = MosaicScore(("assd_nm", "hausdorff95_nm"), _surface_row)
"""ASSD and HD95 in nm; infinite where one of truth and prediction is empty, NaN where both are."""


# Voxels to look up, as a share of all, from which on a distance transform of everything is quicker than a search tree.
_MANY = 0.01


def mean_distance(
    mask: Mask,
    other: Mask,
    pixel_size_nm: Sequence[float],
    distance_to_other_nm: Callable[[], Distances],
    threads: int = 2,
) -> float:
    """Compute the mean distance of the voxels of a mask to the nearest of another; 0 for common ones.

    Where few voxels lie outside of the other mask, they alone are looked up in a search tree of its surface.

    Args:
        mask: ``bool (*S)``, 2D or 3D, without ignored voxels.
        other: ``bool (*S)``, likewise.
        pixel_size_nm: One value an axis.
        distance_to_other_nm: Makes the ``float32 (*S)`` distances of all voxels to ``other`` in nm; called where many
            voxels lie outside.
        threads: Number of threads of the search.

    Returns:
        0 or more, in nm; infinite where only ``other`` is empty, NaN where ``mask`` is.
    """
    number = int(np.count_nonzero(mask))
    if not number:
        return math.nan
    outside = np.flatnonzero(mask > other)
    if not outside.size:
        return 0.0
    if not other.any():
        return math.inf
    if outside.size > _MANY * mask.size:
        found: NDArray[np.floating] = distance_to_other_nm().ravel()[outside]
    else:
        # A voxel outside is nearest to one of the surface: further inside, the way to it has passed a nearer one.
        targets = _places(np.flatnonzero(surface(other)), mask.shape, pixel_size_nm)
        # Points on a grid with many equal coordinates: scipy's default tree needs three times as long for them.
        tree = cKDTree(targets, leafsize=32, balanced_tree=False, compact_nodes=False)
        found, _ = tree.query(_places(outside, mask.shape, pixel_size_nm), workers=threads)
    return float(found.sum(dtype=np.float64) / number)


def _places(flat: NDArray[np.intp], shape: tuple[int, ...], pixel_size_nm: Sequence[float]) -> NDArray[np.float64]:
    return np.stack([at * size for at, size in zip(np.unravel_index(flat, shape), pixel_size_nm, strict=True)], axis=1)


def _cleft_row(pair: MosaicPair) -> tuple[float, ...]:
    truth, predicted = pair.truth, pair.predicted
    size, threads = pair.pixel_size_nm, pair.threads
    adgt = mean_distance(predicted, truth, size, lambda: pair.distance_to_truth_nm, threads)
    adf = mean_distance(truth, predicted, size, lambda: pair.distance_to_prediction_nm, threads)
    score = math.inf if math.inf in (adgt, adf) else (adgt + adf) / 2
    return adgt, adf, score


CLEFT_DISTANCES = MosaicScore(("adgt_nm", "adf_nm", "cremi_score_nm"), _cleft_row)
"""ADGT, ADF and CREMI score in nm, see :class:`~.cleft_distances.CleftDistances`."""
