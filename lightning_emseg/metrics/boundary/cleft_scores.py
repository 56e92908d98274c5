"""CREMI's score of synaptic clefts: how far predicted and true cleft voxels lie from each other."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lightning_emseg.metrics.boundary.surfaces import surface
from lightning_emseg.metrics.comparison import Comparison, Distances, Mask
from lightning_emseg.metrics.mosaic_score import MosaicScore

# Voxels to look up, as a share of all, from which on a distance transform of everything is quicker than a search tree.
_MANY = 0.01


def mean_distance(
    mask: Mask,
    other: Mask,
    pixel_size_nm: Sequence[float],
    distance_to_other_nm: Callable[[], Distances],
    threads: int = 2,
) -> float:
    """Mean distance of the voxels of a mask to the nearest voxel of another, between centres; 0 for common ones.

    Where few voxels lie outside of the other mask, they alone are looked up in a search tree of its surface.

    Args:
        mask: ``bool (*S)``, 2D or 3D, without ignored voxels.
        other: ``bool (*S)``, likewise.
        pixel_size_nm: One value an axis.
        distance_to_other_nm: Makes the ``float32 (*S)`` distances of all voxels to ``other`` in nm; called where many
            voxels lie outside.
        threads: That the search may use.

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


def _cleft_row(comparison: Comparison) -> tuple[float, ...]:
    truth, predicted = comparison.truth, comparison.predicted
    size, threads = comparison.pixel_size_nm, comparison.threads
    adgt = mean_distance(predicted, truth, size, lambda: comparison.distance_to_truth_nm, threads)
    adf = mean_distance(truth, predicted, size, lambda: comparison.distance_to_prediction_nm, threads)
    score = math.inf if math.inf in (adgt, adf) else (adgt + adf) / 2
    return adgt, adf, score


CLEFT_DISTANCES = MosaicScore(("adgt_nm", "adf_nm", "cremi_score_nm"), _cleft_row)
"""ADGT, ADF and CREMI score in nm, see :class:`~.cleft_distances.CleftDistances`."""
