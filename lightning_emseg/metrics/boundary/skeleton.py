"""Thinning of a membrane map to lines one pixel wide, 64 pixels at a time."""

from collections.abc import Callable
from itertools import cycle, product

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]
Places = NDArray[np.intp]

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
    """Words that are, or are beside, some words."""
    wide = places.copy()
    wide[1:] |= places[:-1]
    wide[:-1] |= places[1:]
    high = wide.copy()
    high[row:] |= wide[:-row]
    high[:-row] |= wide[row:]
    return high


def _deletable(words: Words, places: Places, row: int, blocker: Callable[..., Words]) -> Words:
    """Pixels that a step takes away from the words at some places."""
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


def _around(words: Words, places: Places, row: int) -> tuple[Words, ...]:
    """The eight neighbours of all pixels in some words, clockwise from the north."""
    nw, n, ne = _three(words, places - row)
    w, _, e = _three(words, places)
    sw, s, se = _three(words, places + row)
    return n, ne, e, se, s, sw, w, nw


def _simple(n: Words, ne: Words, e: Words, se: Words, s: Words, sw: Words, w: Words, nw: Words) -> Words:
    """Pixels at the border without which the topology is the same.

    A walk round such a pixel, from one face neighbour to the next, comes from background upon foreground once.
    """
    first, second = _comes_upon(n, ne, e), _comes_upon(e, se, s)
    third, fourth = _comes_upon(s, sw, w), _comes_upon(w, nw, n)
    odd: Words = (first | second) ^ (third | fourth)
    return odd & ~(first & second | third & fourth)


def _comes_upon(face: Words, corner: Words, following: Words) -> Words:
    foreground: Words = corner | following
    return foreground & ~face


def _three(words: Words, places: Places) -> tuple[Words, Words, Words]:
    """The neighbours to the west of all pixels in some words, the pixels themselves, and those to the east."""
    # All places exist; clipping merely spares the check.
    before, here, behind = (words.take(places + offset, mode="clip") for offset in (-1, 0, 1))
    west, east = here << _ONE | before >> _LAST, here >> _ONE | behind << _LAST
    return west, here, east


def _two_and_four(a: Words, b: Words, c: Words, d: Words) -> tuple[Words, Words]:
    """Where at least two, and where all four are set."""
    both, others = a & b, c & d
    across: Words = (a | b) & (c | d)
    return both | others | across, both & others


_BLOCKERS: tuple[Callable[..., Words], ...] = (
    lambda n, ne, e, se, s, sw, w, nw: (n | ne | ~se) & e,
    lambda n, ne, e, se, s, sw, w, nw: (s | sw | ~nw) & w,
)
"""What keeps a pixel in every first and every second step, so that a line two pixels wide does not lose both."""
