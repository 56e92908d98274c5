"""One rule of grey for all sections of a volume, from its values as a whole."""

import warnings

import numpy as np

from data_modules.convert.decode import Pixels
from data_modules.convert.grey import PERCENTILES
from data_modules.convert.volume_stacks import Stack
from data_modules.errors import UserError

_BINS = 2**16
"""Of the histogram of types with more values; percentiles are off by at most one part in 65,536 of the range."""


def volume_rule(stack: Stack, rule: str) -> str:
    """The rule that brings every section to 8 bit by the limits of the whole volume.

    Args:
        stack: Read once or twice for ``range`` and ``percentile`` of more than 8 bits, not at all otherwise.
        rule: See :func:`data_modules.convert.grey.to_8_bit`.

    Returns:
        ``rule`` itself, or the two values ``lo,hi`` that it comes to.

    Raises:
        UserError: if values are not finite.
    """
    if rule not in ("range", "percentile") or stack.dtype == np.uint8:
        return rule
    lo, hi = _range(stack)
    if lo == hi:
        warnings.warn(f"{stack.what} is {lo:g} everywhere: it was written as 0", stacklevel=2)
        return f"{lo!r},{lo + 1!r}"
    if rule == "percentile":
        inner = _percentiles(stack, lo, hi)
        lo, hi = inner if inner[0] < inner[1] else (lo, hi)
    return f"{lo!r},{hi!r}"


def _range(stack: Stack) -> tuple[float, float]:
    limits = []
    for number, section in enumerate(stack.sections(0, stack.shape[0])):
        if section.dtype.kind == "f" and (wrong := int(np.count_nonzero(~np.isfinite(section)))):
            raise UserError(
                f"{stack.what} (section {number}) has {wrong} pixels that are NaN or infinite: "
                "give them a grey value first"
            )
        limits.append((float(section.min()), float(section.max())))
    return min(lo for lo, _ in limits), max(hi for _, hi in limits)


def _percentiles(stack: Stack, lo: float, hi: float) -> tuple[float, float]:
    exact = stack.dtype.kind in "iu" and hi - lo < _BINS
    length = int(hi - lo) + 1 if exact else _BINS
    counts = np.zeros(length, np.int64)
    for section in stack.sections(0, stack.shape[0]):
        if exact:
            # Subtracted in 64 bits: 16-bit values of both signs are up to 65,535 apart.
            counts += np.bincount((section.astype(np.int64) - int(lo)).ravel(), minlength=length)
        else:
            counts += np.histogram(section, bins=_BINS, range=(lo, hi))[0]
    if exact:
        low, high = (_percentile(lo + np.arange(length), counts, share / 100) for share in PERCENTILES)
        return low, high
    # The outer edges of bins: at their centres, a volume with many pixels at one extreme would have all those clipped.
    edges = np.linspace(lo, hi, _BINS + 1)
    return _percentile(edges[:-1], counts, PERCENTILES[0] / 100), _percentile(edges[1:], counts, PERCENTILES[1] / 100)


def _percentile(values: Pixels, counts: Pixels, share: float) -> float:
    """As ``numpy.percentile``: between the two nearest ranks, by how near they are."""
    below = np.cumsum(counts)
    rank = share * (int(below[-1]) - 1)
    left, right = (values[np.searchsorted(below, place, side="right")] for place in (np.floor(rank), np.ceil(rank)))
    return float(left + (right - left) * (rank - np.floor(rank)))
