"""Errors as objects: gaps in true membranes, and membranes where there are none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from lightning_emseg.error_analysis.error_map import PIECE, Codes, Outcome, pixels_of
from lightning_emseg.metrics.boundary.runs import runs
from lightning_emseg.metrics.boundary.skeleton import skeleton
from lightning_emseg.metrics.comparison import Mask, Segments


@dataclass(frozen=True)
class ErrorObject:
    """A connected error.

    Attributes:
        centre_px: Mean position of its pixels, ``(y, x)`` or ``(z, y, x)``.
        box_px: First pixel along each axis, and the one to end before.
        size_px: Number of its pixels.
        size_nm: Their area in nm², or their volume in nm³.
        length_nm: Along its skeleton, in nm; NaN in a volume.
    """

    centre_px: tuple[float, ...]
    box_px: tuple[tuple[int, ...], tuple[int, ...]]
    size_px: int
    size_nm: float
    length_nm: float


@dataclass(frozen=True)
class ErrorObjects:
    """All errors of one kind.

    Attributes:
        found: Worst first.
        labels: ``uint32`` of the mosaic's shape: 1 for the worst, 2 for the next one …, 0 elsewhere.
    """

    found: tuple[ErrorObject, ...]
    labels: Segments


def breaks(codes: Codes, truth_skeleton: Mask, pixel_size_nm: Sequence[float], shortest_nm: float) -> ErrorObjects:
    """Gaps in true membranes: runs of the truth's skeleton beyond the tolerance of the prediction.

    The same gaps as :func:`lightning_emseg.metrics.boundary.breaks.breaks` counts, with their places.

    Args:
        codes: Error map ``uint8 (Y, X)``; its tolerance is that of the breaks.
        truth_skeleton: ``bool (Y, X)``, a part of the truth.
        pixel_size_nm: Along Y and X.
        shortest_nm: A gap has to be longer than this.

    Returns:
        The longest first; size is that of the skeleton.
    """
    gaps = runs(truth_skeleton & pixels_of(codes, Outcome.FALSE_NEGATIVE), pixel_size_nm)
    order, ids = _worst_first(gaps.lengths_nm, gaps.lengths_nm > shortest_nm)
    labels = np.zeros(codes.shape, np.uint32)
    labels.reshape(-1)[gaps.places] = ids[gaps.numbers]
    return _described(labels, gaps.lengths_nm[order], pixel_size_nm)


def spurious_membranes(codes: Codes, pixel_size_nm: Sequence[float], smallest_nm: float) -> ErrorObjects:
    """Predicted foreground beyond the tolerance of true foreground, connected over faces, edges and corners.

    Args:
        codes: Error map ``uint8``, 2D or 3D.
        pixel_size_nm: One value an axis.
        smallest_nm: Area in nm² (volume in nm³) from which on it is one.

    Returns:
        The largest first.
    """
    false = pixels_of(codes, Outcome.FALSE_POSITIVE)
    # Of boolean masks cc3d 4.1.1 finds wrong components over corners where the last side is odd.
    labels = cc3d.connected_components(
        false.view(np.uint8), connectivity=8 if false.ndim == 2 else 26, out_dtype=np.uint32
    ).astype(np.uint32, copy=False)
    sizes = np.bincount(labels[false])[1:]
    kept = sizes * math.prod(pixel_size_nm) >= smallest_nm * (1 - 1e-9)
    lengths = _lengths(false, labels, pixel_size_nm) if false.ndim == 2 else np.full(len(sizes), np.nan)
    order, ids = _worst_first(sizes, kept)
    by_label, flat = np.concatenate(([np.uint32(0)], ids)), labels.reshape(-1)
    # In pieces, because numpy makes 64-bit copies of indices.
    for start in range(0, flat.size, PIECE):
        flat[start : start + PIECE] = by_label[flat[start : start + PIECE]]
    return _described(labels, lengths[order], pixel_size_nm)


def _lengths(mask: Mask, labels: Segments, pixel_size_nm: Sequence[float]) -> NDArray[np.float64]:
    """Length of every component of a mask, which thinning leaves in one piece each."""
    lines = runs(skeleton(mask), pixel_size_nm)
    lengths = np.zeros(len(lines.lengths_nm))
    lengths[labels.ravel()[lines.places] - 1] = lines.lengths_nm[lines.numbers]
    return lengths


def _worst_first(
    badness: NDArray[np.int64] | NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Indices of the objects to be kept, of equal ones the first in front, and the new id of every object, or 0."""
    order = np.flatnonzero(kept)
    order = order[np.argsort(-badness[order], kind="stable")]
    ids = np.zeros(len(kept), np.uint32)
    ids[order] = np.arange(1, len(order) + 1)
    return order, ids


def _described(labels: Segments, lengths: NDArray[np.float64], pixel_size_nm: Sequence[float]) -> ErrorObjects:
    if not len(lengths):
        return ErrorObjects((), labels)
    measured = cc3d.statistics(labels, no_slice_conversion=True)
    sizes, centres = measured["voxel_counts"][1:].tolist(), measured["centroids"][1:].tolist()
    firsts = measured["bounding_boxes"][1:, ::2].tolist()
    ends = (measured["bounding_boxes"][1:, 1::2].astype(np.int64) + 1).tolist()
    pixel_nm = math.prod(pixel_size_nm)
    found = [
        ErrorObject(tuple(centre), (tuple(first), tuple(end)), size, size * pixel_nm, length)
        for centre, first, end, size, length in zip(centres, firsts, ends, sizes, lengths.tolist(), strict=True)
    ]
    return ErrorObjects(tuple(found), labels)
