"""Rules that bring images of any data type to 8 bit, with a record of what was done."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.images.image import Image, Pixels

PERCENTILES = (0.1, 99.9)
RULES = ("percentile", "range", "dtype")
_ROWS = 512
"""Rows mapped at a time, so that the floating-point copy stays small."""


@dataclass(frozen=True)
class Grey:
    """An image brought to 8 bit.

    Attributes:
        pixels: ``uint8 (Y, X)``.
        record: JSON-ready: ``rule``, ``source_dtype`` and, unless unchanged, ``lo`` and ``hi`` (source values that
            became 0 and 255) and ``clipped_fraction`` (share of pixels outside them, 0 to 1).
    """

    pixels: NDArray[np.uint8]
    record: dict[str, Any]


def check_rule(rule: str) -> None:
    """Say at once whether a rule can be used.

    Raises:
        UserError: if it is none of the names and no pair ``lo,hi``.
    """
    if rule not in RULES:
        _explicit(rule)


def to_8_bit(pixels: Pixels, rule: str, what: str) -> Grey:
    """Map source values linearly to 0…255, clipping what lies outside.

    Args:
        pixels: ``(Y, X)`` of any real data type.
        rule: ``percentile`` (the 0.1 and 99.9 percentiles of this image), ``range`` (its least and greatest value),
            ``dtype`` (the full range of its integer type), or two numbers ``lo,hi``. 8-bit images stay as they are
            unless two numbers are given; 1-bit images become 0 and 255.
        what: The file, for messages.

    Raises:
        UserError: if the rule is unknown or does not fit the type, or values are not finite.
    """
    source = str(pixels.dtype)
    if pixels.dtype == bool:
        return Grey(pixels.astype(np.uint8) * np.uint8(255), {"rule": "1 bit to 0 and 255", "source_dtype": source})
    if pixels.dtype.kind not in "iuf":
        raise UserError(f"{what} holds {source} values: save it as integers or floating point")
    if pixels.dtype == np.uint8 and rule in RULES:
        return Grey(pixels.astype(np.uint8, copy=False), {"rule": "unchanged", "source_dtype": source})
    if pixels.dtype.kind == "f" and (wrong := int(np.count_nonzero(~np.isfinite(pixels)))):
        raise UserError(f"{what} has {wrong} pixels that are NaN or infinite: give them a grey value first")
    lo, hi = _limits(pixels, rule, what)
    mapped = np.empty(pixels.shape, np.uint8)
    clipped = 0
    width = hi - lo or 1.0
    for start in range(0, len(pixels), _ROWS):
        rows = pixels[start : start + _ROWS].astype(np.float64)
        clipped += int(np.count_nonzero((rows < lo) | (rows > hi)))
        mapped[start : start + _ROWS] = np.rint((rows.clip(lo, hi) - lo) * 255 / width)
    fraction = clipped / pixels.size
    return Grey(mapped, {"rule": rule, "lo": lo, "hi": hi, "source_dtype": source, "clipped_fraction": fraction})


def _limits(pixels: Pixels, rule: str, what: str) -> tuple[float, float]:
    if rule == "percentile":
        # NumPy takes differences of neighbouring values in their own type, in which those of signed ones overflow.
        wide = pixels.astype(np.int32) if pixels.dtype in (np.int8, np.int16) else pixels
        lo, hi = (float(value) for value in np.percentile(wide, PERCENTILES))
        if lo < hi:
            return lo, hi
    if rule in ("percentile", "range"):
        return float(pixels.min()), float(pixels.max())
    if rule == "dtype":
        if pixels.dtype.kind == "f":
            raise UserError(f"{what} is {pixels.dtype}, which has no full range: use --grey percentile or --grey lo,hi")
        return float(np.iinfo(pixels.dtype).min), float(np.iinfo(pixels.dtype).max)
    return _explicit(rule)


def _explicit(rule: str) -> tuple[float, float]:
    try:
        lo, hi = (float(part) for part in rule.split(","))
    except ValueError:
        raise UserError(f"--grey {rule!r} is none of {', '.join(RULES)} and no pair lo,hi such as 0,4095") from None
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise UserError(f"--grey {rule}: the first number has to be smaller than the second")
    return lo, hi


_BINS = 2**16
"""Of the histogram of types with more values; percentiles are off by at most one part in 65,536 of the range."""


def volume_rule(image: Image, rule: str) -> str:
    """The rule that brings every section to 8 bit by the limits of the whole volume.

    Args:
        image: Read once or twice for ``range`` and ``percentile`` of more than 8 bits, not at all otherwise.
        rule: Name of the rule, see :func:`to_8_bit`.

    Returns:
        ``rule`` itself, or the two values ``lo,hi`` that it comes to.

    Raises:
        UserError: if values are not finite.
    """
    if rule not in ("range", "percentile") or image.dtype == np.uint8:
        return rule
    lo, hi = _range(image)
    if lo == hi:
        warnings.warn(f"{image.what} is {lo:g} everywhere: it was written as 0", stacklevel=2)
        return f"{lo!r},{lo + 1!r}"
    if rule == "percentile":
        inner = _percentiles(image, lo, hi)
        lo, hi = inner if inner[0] < inner[1] else (lo, hi)
    return f"{lo!r},{hi!r}"


def _range(image: Image) -> tuple[float, float]:
    limits = []
    for number, section in enumerate(image.sections()):
        if section.dtype.kind == "f" and (wrong := int(np.count_nonzero(~np.isfinite(section)))):
            raise UserError(
                f"{image.what} (section {number}) has {wrong} pixels that are NaN or infinite: "
                "give them a grey value first"
            )
        limits.append((float(section.min()), float(section.max())))
    return min(lo for lo, _ in limits), max(hi for _, hi in limits)


def _percentiles(image: Image, lo: float, hi: float) -> tuple[float, float]:
    exact = image.dtype.kind in "iu" and hi - lo < _BINS
    length = int(hi - lo) + 1 if exact else _BINS
    counts = np.zeros(length, np.int64)
    for section in image.sections():
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
