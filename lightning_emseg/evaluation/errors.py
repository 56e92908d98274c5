"""Errors of one mosaic: error map, breaks and spurious membranes, worst regions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import cc3d
import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.geometry import Grid
from lightning_emseg.metrics.boundary.skeleton import SHORTEST_BREAK_NM, runs, skeleton
from lightning_emseg.metrics.mosaic_pair import Mask, MosaicPair, Segments, within

Codes = NDArray[np.uint8]
PIECE = 1 << 24
"""Pixels worked on at once, so that what is needed on the way stays small beside the mosaic."""


class PixelOutcome(IntEnum):
    """Codes of an error map, the worse an outcome the higher; 255 stands for pixels without truth."""

    TRUE_NEGATIVE = 0
    TRUE_POSITIVE = 1
    TOLERATED_FALSE_POSITIVE = 2
    TOLERATED_FALSE_NEGATIVE = 3
    FALSE_POSITIVE = 4
    FALSE_NEGATIVE = 5


MEANINGS: Mapping[PixelOutcome, str] = {
    PixelOutcome.TRUE_NEGATIVE: "background",
    PixelOutcome.TRUE_POSITIVE: "correct membrane",
    PixelOutcome.TOLERATED_FALSE_POSITIVE: "too thick, within tolerance",
    PixelOutcome.TOLERATED_FALSE_NEGATIVE: "too thin, within tolerance",
    PixelOutcome.FALSE_POSITIVE: "false membrane",
    PixelOutcome.FALSE_NEGATIVE: "missed membrane",
}
"""What a code says to a reader."""


def compute_error_codes(pair: MosaicPair, tolerance_nm: float) -> Codes:
    """Compute the outcome of every pixel.

    A false positive counts as tolerated when true foreground lies at most ``tolerance_nm`` from it, a false negative
    when predicted foreground does: both then only make a membrane thicker or thinner. With a tolerance of 0 nm every
    error is a real one.

    Args:
        pair: Truth and prediction, 2D or 3D.
        tolerance_nm: Euclidean distance between centres of pixels, inclusive, in nm.

    Returns:
        ``uint8``, values of :class:`PixelOutcome`, and 255 where the truth is unknown.

    Raises:
        UserError: if the tolerance is negative or no finite number.
    """
    if not (math.isfinite(tolerance_nm) and tolerance_nm >= 0):
        raise UserError(f"tolerance_nm is {tolerance_nm}: give a distance in nm of 0 or more")
    codes = np.empty(pair.labels.shape, np.uint8)
    known, truth, predicted = pair.known.ravel(), pair.truth.ravel(), pair.predicted.ravel()
    to_truth, to_prediction = pair.distance_to_truth_nm.ravel(), pair.distance_to_prediction_nm.ravel()
    flat = codes.reshape(-1)
    for start in range(0, flat.size, PIECE):
        at = slice(start, start + PIECE)
        near = np.where(truth[at], within(to_prediction[at], tolerance_nm), within(to_truth[at], tolerance_nm))
        expected, far = truth[at].view(np.uint8), (~near).view(np.uint8)
        wrong = (truth[at] != predicted[at]).view(np.uint8)
        found = expected & predicted[at].view(np.uint8)
        found += wrong * (PixelOutcome.TOLERATED_FALSE_POSITIVE.value + expected + 2 * far)
        flat[at] = np.where(known[at], found, IGNORE)
    return codes


def find_outcome(codes: Codes, outcome: PixelOutcome) -> Mask:
    """Find where a map has this outcome."""
    # The member itself is no Python int for numpy, which would compare 64-bit integers then.
    found: Mask = codes == outcome.value
    return found


def find_real_errors(codes: Codes) -> Mask:
    """Find where a map has an error beyond the tolerance."""
    return find_outcome(codes, PixelOutcome.FALSE_POSITIVE) | find_outcome(codes, PixelOutcome.FALSE_NEGATIVE)


def count_outcomes(codes: Codes) -> dict[PixelOutcome, int]:
    """Count the pixels by outcome; those without truth are left out."""
    return {outcome: int(np.count_nonzero(find_outcome(codes, outcome))) for outcome in PixelOutcome}


def reduce_codes(codes: Codes, step: int) -> Codes:
    """Make a smaller error map in which no real error is lost, however thin.

    A block shows a real error if it has one, a missed membrane before a false one. Other blocks show what most of
    their pixels are, so that membranes do not grow; the worse outcome of equal shares, and 255 where nothing is known.

    Args:
        codes: ``uint8 (…, Y, X)``.
        step: Side of a block along Y and X in px, at least 1; blocks at the far borders may be smaller.

    Returns:
        ``uint8 (…, ⌈Y / step⌉, ⌈X / step⌉)``.
    """
    if step == 1:
        return codes
    height, width = codes.shape[-2:]
    padding = [(0, 0)] * (codes.ndim - 2) + [(0, -height % step), (0, -width % step)]
    codes = np.pad(codes, padding, constant_values=IGNORE)
    most = _per_block(find_outcome(codes, PixelOutcome.TRUE_NEGATIVE), step)
    found = np.where(most > 0, np.uint8(PixelOutcome.TRUE_NEGATIVE), np.uint8(IGNORE))
    for outcome in (
        PixelOutcome.TRUE_POSITIVE,
        PixelOutcome.TOLERATED_FALSE_POSITIVE,
        PixelOutcome.TOLERATED_FALSE_NEGATIVE,
    ):
        count = _per_block(find_outcome(codes, outcome), step)
        wins = (count > 0) & (count >= most)
        found[wins], most[wins] = outcome, count[wins]
    for outcome in (PixelOutcome.FALSE_POSITIVE, PixelOutcome.FALSE_NEGATIVE):
        found[_per_block(find_outcome(codes, outcome), step) > 0] = outcome
    return found


def _per_block(mask: Mask, step: int) -> NDArray[np.uint32]:
    """Count the pixels of the mask in every block along the last two axes, which are multiples of ``step``."""
    # Whole rows are added first, as bytes where these can hold the sum: many times faster than small blocks.
    rows = mask.view(np.uint8).reshape(*mask.shape[:-2], -1, step, mask.shape[-1])
    columns = rows.sum(axis=-2, dtype=np.uint8 if step < 256 else np.uint32)
    counts = np.zeros((*columns.shape[:-1], columns.shape[-1] // step), np.uint32)
    for first in range(step):
        counts += columns[..., first::step]
    return counts


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


def find_breaks(codes: Codes, truth_skeleton: Mask, pixel_size_nm: Sequence[float], shortest_nm: float) -> ErrorObjects:
    """Find gaps in true membranes: runs of the truth's skeleton beyond the tolerance of the prediction.

    The same gaps as :func:`lightning_emseg.metrics.boundary.skeleton.count_breaks` counts, with their places.

    Args:
        codes: Error map ``uint8 (Y, X)``; its tolerance is that of the breaks.
        truth_skeleton: ``bool (Y, X)``, a part of the truth.
        pixel_size_nm: Along Y and X.
        shortest_nm: A gap has to be longer than this.

    Returns:
        The longest first; size is that of the skeleton.
    """
    gaps = runs(truth_skeleton & find_outcome(codes, PixelOutcome.FALSE_NEGATIVE), pixel_size_nm)
    order, ids = _worst_first(gaps.lengths_nm, gaps.lengths_nm > shortest_nm)
    labels = np.zeros(codes.shape, np.uint32)
    labels.reshape(-1)[gaps.places] = ids[gaps.numbers]
    return _describe(labels, gaps.lengths_nm[order], pixel_size_nm)


def find_spurious_membranes(codes: Codes, pixel_size_nm: Sequence[float], smallest_nm: float) -> ErrorObjects:
    """Find predicted foreground beyond the tolerance of the true one, connected over faces, edges and corners.

    Args:
        codes: Error map ``uint8``, 2D or 3D.
        pixel_size_nm: One value an axis.
        smallest_nm: Area in nm² (volume in nm³) from which on it is one.

    Returns:
        The largest first.
    """
    false = find_outcome(codes, PixelOutcome.FALSE_POSITIVE)
    # Of boolean masks cc3d 4.1.1 finds wrong components over corners where the last side is odd.
    labels = cc3d.connected_components(
        false.view(np.uint8), connectivity=8 if false.ndim == 2 else 26, out_dtype=np.uint32
    ).astype(np.uint32, copy=False)
    sizes = np.bincount(labels[false])[1:]
    kept = sizes * math.prod(pixel_size_nm) >= smallest_nm * (1 - 1e-9)
    lengths = np.full(len(sizes), np.nan)
    if false.ndim == 2:
        # Thinning leaves every component in one piece.
        lines = runs(skeleton(false), pixel_size_nm)
        lengths[labels.ravel()[lines.places] - 1] = lines.lengths_nm[lines.numbers]
    order, ids = _worst_first(sizes, kept)
    by_label, flat = np.concatenate(([np.uint32(0)], ids)), labels.reshape(-1)
    # In pieces, because numpy makes 64-bit copies of indices.
    for start in range(0, flat.size, PIECE):
        flat[start : start + PIECE] = by_label[flat[start : start + PIECE]]
    return _describe(labels, lengths[order], pixel_size_nm)


def _worst_first(
    badness: NDArray[np.int64] | NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Order the objects to be kept, of equal ones the first in front, and give every object its new id, or 0."""
    order = np.flatnonzero(kept)
    order = order[np.argsort(-badness[order], kind="stable")]
    ids = np.zeros(len(kept), np.uint32)
    ids[order] = np.arange(1, len(order) + 1)
    return order, ids


def _describe(labels: Segments, lengths: NDArray[np.float64], pixel_size_nm: Sequence[float]) -> ErrorObjects:
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


_STEPS = 8
"""Windows are tried at every eighth of their side."""
_BAND = 1024


@dataclass(frozen=True)
class ErrorRegion:
    """A window of a mosaic.

    Attributes:
        origin: First pixel, ``(y, x)`` in px of the mosaic.
        size: ``(height, width)`` in px.
        error_px: Number of pixels of real errors in it, those beyond the tolerance.
    """

    origin: tuple[int, int]
    size: tuple[int, int]
    error_px: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """For indexing the mosaic."""
        (y, x), (height, width) = self.origin, self.size
        return slice(y, y + height), slice(x, x + width)


def worst_regions(codes: Codes, side: int = 256, most: int = 6) -> list[ErrorRegion]:
    """Rank windows by their real errors, greedily: each is the worst that overlaps none before it.

    Windows begin at multiples of an eighth of their side, or end at the far border.

    Args:
        codes: Error map ``uint8 (Y, X)``.
        side: Side of a window in px, at least 1; a smaller mosaic is one window along that axis.
        most: Largest number of windows.

    Returns:
        Worst first, of equal ones the upper left first; none without a real error.

    Raises:
        ValueError: unless the map has two axes.
    """
    if codes.ndim != 2:
        raise ValueError(f"regions are windows of a plane, got an error map of {codes.shape} px")
    size = (min(side, codes.shape[0]), min(side, codes.shape[1]))
    ys, xs = (np.array(starts) for starts in Grid(codes.shape, size, 1 - 1 / _STEPS).starts)
    # Real errors in every window, from sums along rows and then along columns.
    rows = np.zeros((codes.shape[0] + 1, len(xs)), np.int64)
    for start in range(0, codes.shape[0], _BAND):
        band = codes[start : start + _BAND]
        sums = np.zeros((len(band), band.shape[1] + 1), np.int32)
        np.cumsum(find_real_errors(band), axis=1, dtype=np.int32, out=sums[:, 1:])
        rows[start + 1 : start + 1 + len(band)] = sums[:, xs + size[1]] - sums[:, xs]
    np.cumsum(rows, axis=0, out=rows)
    left = rows[ys + size[0]] - rows[ys]
    regions: list[ErrorRegion] = []
    while len(regions) < most and left.max() > 0:
        row, column = np.unravel_index(left.argmax(), left.shape)
        y, x = int(ys[row]), int(xs[column])
        regions.append(ErrorRegion((y, x), size, int(left[row, column])))
        left[np.ix_(abs(ys - y) < size[0], abs(xs - x) < size[1])] = 0
    return regions


SPURIOUS_THICKNESS_NM = 10.0
"""By default a false membrane is at least as large as a break of this thickness, about that of a membrane."""


@dataclass(frozen=True)
class ErrorAnalysis:
    """Errors of one mosaic.

    Attributes:
        codes: Error map, see :func:`lightning_emseg.evaluation.errors.compute_error_codes`.
        tolerance_nm: Up to which an error is one of thickness.
        spurious: False membranes.
        breaks: Gaps in true membranes; ``None`` for a volume.
        skeleton_nm: Length of the truth's skeleton in nm; NaN for a volume.
    """

    codes: Codes
    tolerance_nm: float
    spurious: ErrorObjects
    breaks: ErrorObjects | None
    skeleton_nm: float


def analyse(pair: MosaicPair, tolerance_nm: float) -> ErrorAnalysis:
    """Find the errors of one mosaic.

    A gap is a break when it is longer than 40 nm. A false membrane is one from the area of a line of 40 nm × 10 nm on,
    in a volume 40 nm × 40 nm × 10 nm.

    Args:
        pair: Truth and prediction, 2D or 3D.
        tolerance_nm: Up to which an error is one of thickness, in nm.

    Raises:
        UserError: if the tolerance is negative or no finite number.
    """
    codes = compute_error_codes(pair, tolerance_nm)
    truth, size_nm, axes = pair.truth, pair.pixel_size_nm, codes.ndim
    # Where the caller does not keep it either, its distances, 8 bytes a pixel, make room.
    del pair
    smallest_spurious_nm = SHORTEST_BREAK_NM ** (axes - 1) * SPURIOUS_THICKNESS_NM
    if axes == 3:
        return ErrorAnalysis(
            codes, tolerance_nm, find_spurious_membranes(codes, size_nm, smallest_spurious_nm), None, math.nan
        )
    lines = skeleton(truth)
    gaps = find_breaks(codes, lines, size_nm, SHORTEST_BREAK_NM)
    whole = float(runs(lines, size_nm).lengths_nm.sum())
    # Last, as it takes the most memory.
    spurious = find_spurious_membranes(codes, size_nm, smallest_spurious_nm)
    return ErrorAnalysis(codes, tolerance_nm, spurious, gaps, whole)
