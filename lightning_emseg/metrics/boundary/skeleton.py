"""Skeletons of membranes, their connected runs, and where they are broken."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_emseg.metrics.mosaic_pair import Mask, MosaicPair, MosaicScore, at_once, within

Words = NDArray[np.uint64]
_WordPlaces = NDArray[np.intp]

# Few enough words for the two dozen arrays of a step to stay in the second-level cache.
_PIECE = 8192
_ONE, _LAST, _EVEN = np.uint64(1), np.uint64(63), np.uint64(0x5555555555555555)


def skeleton(mask: Mask) -> Mask:
    """Thin a mask until nothing more can go; what lies outside of the image counts as background.

    Topology is kept: every 8-connected component and every 4-connected component of the background remains, as one.
    Lines are one pixel wide: of a block of 2 × 2 pixels nothing can go without changing the topology. A step looks at
    the whole picture as the step before left it, so the result does not depend on how the work is divided. Two steps
    take a pixel off all round, so the time grows with the thickest part; only what may still change is looked at.

    Source: Guo and Hall, "Parallel thinning with two-subiteration algorithms", Comm. ACM 32 (1989), algorithm A1, in
    the form of Lam, Lee and Suen, IEEE PAMI 14 (1992), p. 879, that MATLAB's ``bwmorph(…, 'thin')`` and
    scikit-image's ``thin`` have, and equal to the latter but for the blocks of 2 × 2 pixels that it leaves in noise.
    Pixels are bits of 64-bit words here.

    Args:
        mask: ``bool (Y, X)``.

    Returns:
        ``bool (Y, X)``, a subset of the mask.

    Raises:
        ValueError: if the mask is not two-dimensional.
    """
    if mask.ndim != 2:
        raise ValueError(f"only planes can be thinned, got a mask of {mask.shape} px")
    if not mask.size:
        return mask.copy()
    # Every row ends with an empty bit, and there is an empty row and word before and behind all of them, so that
    # neighbours beyond the image are found to be background.
    row = mask.shape[1] // 64 + 1
    words = np.zeros((mask.shape[0] + 2) * row + 2, "<u8")
    rows = words[row + 1 : -row - 1].view(np.uint8).reshape(mask.shape[0], 8 * row)
    packed = np.packbits(mask, axis=1, bitorder="little")
    rows[:, : packed.shape[1]] = packed
    _thin(words, row)
    _open_blocks(words, row)
    found: Mask = np.unpackbits(rows, axis=1, count=mask.shape[1], bitorder="little").view(np.bool_)
    return found


def _thin(words: Words, row: int) -> None:
    """Thin in place; ``row`` words make a row."""
    filled = words != 0
    active = np.flatnonzero(filled)
    before = filled.copy()
    for blocker in cycle(_BLOCKERS):
        pieces = np.split(active, range(_PIECE, active.size, _PIECE))
        gone = np.concatenate([_deletable(words, places, row, blocker) for places in pieces])
        words[active] ^= gone
        changed = np.zeros_like(filled)
        changed[active] = gone != 0
        # What this kind of step found two steps ago still holds where nothing has changed since.
        active = np.flatnonzero(_spread(changed | before, row) & filled)
        before = changed
        if not active.size:
            return


def _spread(places: Mask, row: int) -> Mask:
    """Find words that are, or are beside, some words."""
    wide = places.copy()
    wide[1:] |= places[:-1]
    wide[:-1] |= places[1:]
    high = wide.copy()
    high[row:] |= wide[:-row]
    high[:-row] |= wide[row:]
    return high


def _deletable(words: Words, places: _WordPlaces, row: int, blocker: Callable[..., Words]) -> Words:
    """Find pixels that a step takes away from the words at some places."""
    n, ne, e, se, s, sw, w, nw = around = _around(words, places, row)
    two, four = _two_and_four(nw | n, ne | e, se | s, sw | w)
    two_other, four_other = _two_and_four(n | ne, e | se, s | sw, w | nw)
    return words[places] & _simple(*around) & two & two_other & ~(four & four_other | blocker(*around))


def _open_blocks(words: Words, row: int) -> None:
    """Take away, in place, what can go of the blocks of 2 × 2 pixels that thinning leaves where lines crowd."""
    places = np.flatnonzero(words)
    _, _, e, se, s, _, _, _ = _around(words, places, row)
    blocks = np.zeros(words.size, np.bool_)
    blocks[places] = words[places] & e & se & s != 0
    while blocks.any():
        places = np.flatnonzero(_spread(blocks, row))
        blocks[:] = False
        # Of pixels in every second row and column no two are neighbours, so all of them may be judged at once.
        for odd_row, columns in product((0, 1), (_EVEN, ~_EVEN)):
            here = places[(places - 1) // row % 2 == odd_row]
            n, ne, e, se, s, sw, w, nw = around = _around(words, here, row)
            in_block = n & ne & e | e & se & s | s & sw & w | w & nw & n
            gone = words[here] & _simple(*around) & in_block & columns
            words[here] ^= gone
            blocks[here] |= gone != 0


def _around(words: Words, places: _WordPlaces, row: int) -> tuple[Words, ...]:
    """Return the eight neighbours of all pixels in some words, clockwise from the north."""
    nw, n, ne = _three(words, places - row)
    w, _, e = _three(words, places)
    sw, s, se = _three(words, places + row)
    return n, ne, e, se, s, sw, w, nw


def _simple(n: Words, ne: Words, e: Words, se: Words, s: Words, sw: Words, w: Words, nw: Words) -> Words:
    """Find pixels at the border without which the topology is the same.

    A walk round such a pixel, from one face neighbour to the next, comes from background upon foreground once.
    """
    first, second = _comes_upon(n, ne, e), _comes_upon(e, se, s)
    third, fourth = _comes_upon(s, sw, w), _comes_upon(w, nw, n)
    odd: Words = (first | second) ^ (third | fourth)
    return odd & ~(first & second | third & fourth)


def _comes_upon(face: Words, corner: Words, following: Words) -> Words:
    foreground: Words = corner | following
    return foreground & ~face


def _three(words: Words, places: _WordPlaces) -> tuple[Words, Words, Words]:
    """Return the western neighbours of all pixels in some words, the pixels themselves, and the eastern ones."""
    # All places exist; clipping merely spares the check.
    before, here, behind = (words.take(places + offset, mode="clip") for offset in (-1, 0, 1))
    west, east = here << _ONE | before >> _LAST, here >> _ONE | behind << _LAST
    return west, here, east


def _two_and_four(a: Words, b: Words, c: Words, d: Words) -> tuple[Words, Words]:
    """Find where at least two, and where all four are set."""
    both, others = a & b, c & d
    across: Words = (a | b) & (c | d)
    return both | others | across, both & others


_BLOCKERS: tuple[Callable[..., Words], ...] = (
    lambda n, ne, e, se, s, sw, w, nw: (n | ne | ~se) & e,
    lambda n, ne, e, se, s, sw, w, nw: (s | sw | ~nw) & w,
)
"""What keeps a pixel in every first and every second step, so that a line two pixels wide does not lose both."""


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
    """Find the 8-connected runs of lines one pixel wide.

    A run is as long as the links between the centres of its pixels, and one pixel for its two ends. A diagonal link
    does not count where the two pixels are linked over a common face neighbour already.

    Args:
        lines: ``bool (Y, X)``, few of it set.
        pixel_size_nm: Pixel size along Y and X.

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


SHORTEST_BREAK_NM = 40.0
"""Length in nm that a gap must exceed to count as a break, in panels and error maps."""


def share_covered(lines: Mask, covered: Mask) -> float:
    """Compute the share of a skeleton's pixels that are covered; 1 where there is no skeleton.

    With the true skeleton and the predicted foreground this is the skeleton recall (topology sensitivity), with the
    predicted skeleton and the true foreground the skeleton precision; a tolerance is a foreground grown by it.

    Source: Shit et al., "clDice", CVPR 2021, equation 1, there without a tolerance.

    Args:
        lines: ``bool (Y, X)``, of :func:`~lightning_emseg.metrics.boundary.skeleton.skeleton`.
        covered: ``bool (Y, X)``.

    Returns:
        0–1.
    """
    number = int(np.count_nonzero(lines))
    return int(np.count_nonzero(lines & covered)) / number if number else 1.0


def count_breaks(lines: Mask, covered: Mask, pixel_size_nm: Sequence[float], shortest_nm: float) -> tuple[int, float]:
    """Count the gaps in the membranes: 8-connected runs of the true skeleton that are not covered.

    This is U-RISC's "incontinuity of the membrane", which the paper names but does not define. Gaps that meet at a
    junction are one.

    Args:
        lines: ``bool (Y, X)``, the true skeleton.
        covered: ``bool (Y, X)``, the predicted foreground, grown by a tolerance.
        pixel_size_nm: Pixel size along Y and X.
        shortest_nm: Only gaps longer than this count; lengths as in
            :func:`~lightning_emseg.metrics.boundary.skeleton.runs`.

    Returns:
        Their number, and their number a millimeter of true skeleton; NaN where there is none.
    """
    gaps = runs(lines & ~covered, pixel_size_nm).lengths_nm
    number = int(np.count_nonzero(gaps > shortest_nm))
    skeleton_mm = float(runs(lines, pixel_size_nm).lengths_nm.sum()) / 1e6
    return number, number / skeleton_mm if skeleton_mm > 0 else math.nan


def skeleton_recall(tolerance_nm: float, shortest_break_nm: float) -> MosaicScore:
    """Name skeleton recall and precision, breaks, and breaks a millimeter (NaN without a true skeleton).

    Args:
        tolerance_nm: Distance from a skeleton up to which foreground covers it.
        shortest_break_nm: Length that breaks must exceed to count.
    """
    columns = ("skeleton_recall", "skeleton_precision", "breaks", "breaks_per_mm")
    row = partial(_recall_row, tolerance_nm=tolerance_nm, shortest_break_nm=shortest_break_nm)
    return MosaicScore(columns, row, planes_only=True)


def _recall_row(pair: MosaicPair, tolerance_nm: float, shortest_break_nm: float) -> tuple[float, ...]:
    of_truth, of_prediction = at_once(
        [
            lambda: skeleton(pair.truth),
            lambda: skeleton(pair.probability >= pair.level) & pair.known,
        ],
        pair.threads,
    )
    found = within(pair.distance_to_prediction_nm, tolerance_nm)
    number, per_mm = count_breaks(of_truth, found, pair.pixel_size_nm, shortest_break_nm)
    recall = share_covered(of_truth, found)
    precision = share_covered(of_prediction, within(pair.distance_to_truth_nm, tolerance_nm))
    return recall, precision, float(number), per_mm
