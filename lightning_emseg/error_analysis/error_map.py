"""Outcome of every pixel, with errors of thickness told from real ones."""

import math
from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from lightning_emseg.metrics.boundary.tolerance import within
from lightning_emseg.metrics.comparison import Comparison, Mask

Codes = NDArray[np.uint8]
PIECE = 1 << 24
"""Pixels worked on at once, so that what is needed on the way stays small beside the mosaic."""


class Outcome(IntEnum):
    """Codes of an error map, the worse an outcome the higher; 255 stands for pixels without truth."""

    TRUE_NEGATIVE = 0
    TRUE_POSITIVE = 1
    TOLERATED_FALSE_POSITIVE = 2
    TOLERATED_FALSE_NEGATIVE = 3
    FALSE_POSITIVE = 4
    FALSE_NEGATIVE = 5


MEANINGS: Mapping[Outcome, str] = {
    Outcome.TRUE_NEGATIVE: "background",
    Outcome.TRUE_POSITIVE: "correct membrane",
    Outcome.TOLERATED_FALSE_POSITIVE: "too thick, within tolerance",
    Outcome.TOLERATED_FALSE_NEGATIVE: "too thin, within tolerance",
    Outcome.FALSE_POSITIVE: "false membrane",
    Outcome.FALSE_NEGATIVE: "missed membrane",
}
"""What a code says to a reader."""


def error_codes(comparison: Comparison, tolerance_nm: float) -> Codes:
    """Outcome of every pixel.

    A false positive counts as tolerated when true foreground lies at most ``tolerance_nm`` from it, a false negative
    when predicted foreground does: both then only make a membrane thicker or thinner. With a tolerance of 0 nm every
    error is a real one.

    Args:
        comparison: Truth and prediction, 2D or 3D.
        tolerance_nm: Euclidean distance between centres of pixels, inclusive, in nm.

    Returns:
        ``uint8``, values of :class:`Outcome`, and 255 where the truth is unknown.

    Raises:
        UserError: if the tolerance is negative or no finite number.
    """
    if not (math.isfinite(tolerance_nm) and tolerance_nm >= 0):
        raise UserError(f"tolerance_nm is {tolerance_nm}: give a distance in nm of 0 or more")
    codes = np.empty(comparison.labels.shape, np.uint8)
    known, truth, predicted = comparison.known.ravel(), comparison.truth.ravel(), comparison.predicted.ravel()
    to_truth, to_prediction = comparison.distance_to_truth_nm.ravel(), comparison.distance_to_prediction_nm.ravel()
    flat = codes.reshape(-1)
    for start in range(0, flat.size, PIECE):
        at = slice(start, start + PIECE)
        near = np.where(truth[at], within(to_prediction[at], tolerance_nm), within(to_truth[at], tolerance_nm))
        expected, far = truth[at].view(np.uint8), (~near).view(np.uint8)
        wrong = (truth[at] != predicted[at]).view(np.uint8)
        found = expected & predicted[at].view(np.uint8)
        found += wrong * (Outcome.TOLERATED_FALSE_POSITIVE.value + expected + 2 * far)
        flat[at] = np.where(known[at], found, IGNORE)
    return codes


def pixels_of(codes: Codes, outcome: Outcome) -> Mask:
    """Where a map has this outcome."""
    # The member itself is no Python int for numpy, which would compare 64-bit integers then.
    found: Mask = codes == outcome.value
    return found


def real_errors(codes: Codes) -> Mask:
    """Where a map has an error beyond the tolerance."""
    return pixels_of(codes, Outcome.FALSE_POSITIVE) | pixels_of(codes, Outcome.FALSE_NEGATIVE)


def pixel_counts(codes: Codes) -> dict[Outcome, int]:
    """Number of pixels by outcome; those without truth are not counted."""
    return {outcome: int(np.count_nonzero(pixels_of(codes, outcome))) for outcome in Outcome}


def reduced(codes: Codes, step: int) -> Codes:
    """A smaller error map in which no real error is lost, however thin.

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
    most = _per_block(pixels_of(codes, Outcome.TRUE_NEGATIVE), step)
    found = np.where(most > 0, np.uint8(Outcome.TRUE_NEGATIVE), np.uint8(IGNORE))
    for outcome in (Outcome.TRUE_POSITIVE, Outcome.TOLERATED_FALSE_POSITIVE, Outcome.TOLERATED_FALSE_NEGATIVE):
        count = _per_block(pixels_of(codes, outcome), step)
        wins = (count > 0) & (count >= most)
        found[wins], most[wins] = outcome, count[wins]
    for outcome in (Outcome.FALSE_POSITIVE, Outcome.FALSE_NEGATIVE):
        found[_per_block(pixels_of(codes, outcome), step) > 0] = outcome
    return found


def _per_block(mask: Mask, step: int) -> NDArray[np.uint32]:
    """Number of pixels of the mask in every block along the last two axes, which are multiples of ``step``."""
    # Whole rows are added first, as bytes where these can hold the sum: many times faster than small blocks.
    rows = mask.view(np.uint8).reshape(*mask.shape[:-2], -1, step, mask.shape[-1])
    columns = rows.sum(axis=-2, dtype=np.uint8 if step < 256 else np.uint32)
    counts = np.zeros((*columns.shape[:-1], columns.shape[-1] // step), np.uint32)
    for first in range(step):
        counts += columns[..., first::step]
    return counts
