"""Rules that bring images of any data type to 8 bit, with a record of what was done."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.images.image import Image, Pixels, RefusedError

PERCENTILES = (0.1, 99.9)
RULES = ("percentile", "range", "dtype")
SAMPLE = 2**22
"""Values looked at for percentiles of types that have too many values to count each of them."""
_STEP = 2**22
"""Pixels mapped at a time, so that the floating-point copy stays small."""


def check_rule(rule: str) -> None:
    """Say at once whether a rule can be used.

    Raises:
        UserError: if it is none of the names and no pair ``lo,hi``.
    """
    if rule not in RULES:
        _explicit(rule)


@dataclass(frozen=True)
class ToGrey:
    """A linear map to 8 bit.

    Attributes:
        lo: Source value that becomes 0.
        hi: Source value that becomes 255.
        record: JSON-ready: ``rule``, ``source_dtype`` and, unless unchanged, ``lo``, ``hi``, ``clipped_fraction``
            (share of pixels outside them, 0 to 1) and, of a source that came in pieces, ``of`` (which pixels these were
            found on).
    """

    lo: float
    hi: float
    record: dict[str, Any]

    def apply(self, pixels: Pixels, what: str) -> NDArray[np.uint8]:
        """Map pixels of any shape to ``uint8``, clipping what lies outside.

        Raises:
            RefusedError: if values are not finite.
        """
        if pixels.dtype == np.uint8 and (self.lo, self.hi) == (0, 255):
            return pixels
        _refuse_not_finite(pixels, what)
        flat = np.ravel(pixels)
        mapped = np.empty(flat.size, np.uint8)
        width = self.hi - self.lo or 1.0
        for start in range(0, flat.size, _STEP):
            values = flat[start : start + _STEP].astype(np.float64)
            mapped[start : start + _STEP] = np.rint((values.clip(self.lo, self.hi) - self.lo) * 255 / width)
        return mapped.reshape(pixels.shape)


def to_8_bit(pixels: Pixels, rule: str, what: str) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Map source values linearly to 0…255, clipping what lies outside.

    Args:
        pixels: ``(Y, X)`` of any real data type.
        rule: ``percentile`` (the 0.1 and 99.9 percentiles of this image), ``range`` (its least and greatest value),
            ``dtype`` (the full range of its integer type), or two numbers ``lo,hi``. 8-bit images stay as they are
            unless two numbers are given; 1-bit images become 0 and 255.
        what: The file, for messages.

    Returns:
        ``uint8 (Y, X)``, and the record of :class:`ToGrey`.

    Raises:
        UserError: if the rule is unknown or does not fit the type, or values are not finite.
    """
    if pixels.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {pixels.dtype} values: save it as integers or floating point")
    _refuse_not_finite(pixels, what)
    # NumPy takes differences of neighbouring values in their own type, in which those of signed ones overflow.
    wide = pixels.astype(np.int32) if pixels.dtype in (np.int8, np.int16) else pixels
    grey = _make_map(
        pixels.dtype,
        rule,
        what,
        limits=lambda: (float(pixels.min()), float(pixels.max())),
        percentiles=lambda: tuple(float(value) for value in np.percentile(wide, PERCENTILES)),
        outside=lambda lo, hi: _share_outside(pixels, lo, hi),
    )
    return grey.apply(pixels, what), grey.record


class Survey:
    """Sees every pixel of a source once and then says how it becomes 8 bit.

    Types of up to 16 bits are counted value by value; of others, one value at random (seed 0) of every ``k``
    neighbours in a block is kept, with ``k`` such that about 4 million are.

    Args:
        dtype: Data type of the source.
        size: Number of pixels that will come.
        what: Name of the file, for messages.
    """

    def __init__(self, dtype: "np.dtype[Any]", size: int, what: str) -> None:
        self._dtype = dtype
        self._what = what
        self.is_counted = dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize <= 2)
        self._first = int(np.iinfo(dtype).min) if self.is_counted and dtype.kind != "b" else 0
        self._counts = np.zeros(2 ** (8 * dtype.itemsize) if self.is_counted else 0, np.int64)
        self._every = max(1, -(-size // SAMPLE))
        self._kept: list[Pixels] = []
        self._generator = np.random.default_rng(0)
        self.low, self.high = np.inf, -np.inf
        """Least and greatest value so far."""

    def add(self, pixels: Pixels, what: str = "") -> None:
        """See more pixels.

        Args:
            pixels: Pixels of any shape.
            what: Name of this part of the file, for messages.

        Raises:
            RefusedError: if values are not finite.
        """
        _refuse_not_finite(pixels, what or f"a part of {self._what}")
        self.low, self.high = min(self.low, float(pixels.min())), max(self.high, float(pixels.max()))
        flat = np.ravel(pixels)
        if not self.is_counted:
            starts = np.arange(0, flat.size, self._every)
            chosen = starts + self._generator.integers(0, self._every, starts.size)
            self._kept.append(flat[np.minimum(chosen, flat.size - 1)])
            return
        for start in range(0, flat.size, _STEP):
            values = flat[start : start + _STEP].astype(np.int64) - self._first
            self._counts += np.bincount(values, minlength=self._counts.size)

    def to_grey(self, rule: str, of: str = "all pixels") -> ToGrey:
        """Make the map of a rule of :func:`to_8_bit`, over all pixels seen.

        Args:
            rule: ``percentile``, ``range``, ``dtype`` or ``lo,hi``.
            of: Name of the pixels that were seen, for the record.

        Raises:
            RefusedError: if all pixels are equal, or ``dtype`` is asked for floating point.
        """
        if self.low == self.high:
            raise RefusedError(f"{self._what} is constant: every pixel is {self.low:g}")
        grey = _make_map(
            self._dtype, rule, self._what, lambda: (self.low, self.high), self.percentiles, self._share_outside
        )
        if "lo" in grey.record:
            sampled = rule == "percentile" and self._every > 1 and not self.is_counted
            grey.record["of"] = f"{of}, one of every {self._every} at random" if sampled else of
        return grey

    def percentiles(self) -> tuple[float, ...]:
        """The two of :data:`PERCENTILES`: exact where values are counted, else of those that were kept."""
        if not self.is_counted:
            kept = np.concatenate(self._kept)
            return tuple(float(np.percentile(kept, percent)) for percent in PERCENTILES)
        values = self._first + np.arange(self._counts.size)
        return tuple(_percentile(values, self._counts, percent) for percent in PERCENTILES)

    def _share_outside(self, lo: float, hi: float) -> float:
        if not self.is_counted:
            return _share_outside(np.concatenate(self._kept), lo, hi)
        values = np.arange(self._counts.size) + self._first
        return float(self._counts[(values < lo) | (values > hi)].sum() / self._counts.sum())


def volume_rule(image: Image, rule: str) -> str:
    """The rule that brings every section to 8 bit by the limits of the whole volume.

    Args:
        image: Read once for ``range`` and ``percentile`` of more than 8 bits, twice for ``percentile`` of more than 16,
            not at all otherwise.
        rule: Name of the rule, see :func:`to_8_bit`.

    Returns:
        ``rule`` itself, or the two values ``lo,hi`` that it comes to.

    Raises:
        UserError: if values are not finite.
    """
    if rule not in ("range", "percentile") or image.dtype == np.uint8:
        return rule
    survey = Survey(image.dtype, math.prod(image.shape), image.what)
    for number, section in enumerate(image.sections()):
        survey.add(section, f"{image.what} (section {number})")
    lo, hi = survey.low, survey.high
    if lo == hi:
        warnings.warn(f"{image.what} is {lo:g} everywhere: it was written as 0", stacklevel=2)
        return f"{lo!r},{lo + 1!r}"
    if rule == "percentile":
        low, high = survey.percentiles() if survey.is_counted else _binned_percentiles(image, lo, hi)
        lo, hi = (low, high) if low < high else (lo, hi)
    return f"{lo!r},{hi!r}"


_BINS = 2**16
"""Of the histogram of types with more values; percentiles are off by at most one part in 65,536 of the range."""


def _binned_percentiles(image: Image, lo: float, hi: float) -> tuple[float, float]:
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
        low, high = (_percentile(lo + np.arange(length), counts, percent) for percent in PERCENTILES)
        return low, high
    # The outer edges of bins: at their centres, a volume with many pixels at one extreme would have all those clipped.
    edges = np.linspace(lo, hi, _BINS + 1)
    return _percentile(edges[:-1], counts, PERCENTILES[0]), _percentile(edges[1:], counts, PERCENTILES[1])


def _percentile(values: Pixels, counts: Pixels, percent: float) -> float:
    """As ``numpy.percentile``: between the two nearest ranks, by how near they are."""
    below = np.cumsum(counts)
    rank = percent / 100 * (int(below[-1]) - 1)
    left, right = (values[np.searchsorted(below, place, side="right")] for place in (np.floor(rank), np.ceil(rank)))
    return float(left + (right - left) * (rank - np.floor(rank)))


def _make_map(
    dtype: "np.dtype[Any]",
    rule: str,
    what: str,
    limits: Callable[[], tuple[float, float]],
    percentiles: Callable[[], tuple[float, ...]],
    outside: Callable[[float, float], float],
) -> ToGrey:
    """Apply a rule to the least and greatest value, the percentiles and the shares of pixels of a source."""
    source = {"source_dtype": str(dtype)}
    if dtype.kind == "b":
        return ToGrey(0, 1, {"rule": "1 bit to 0 and 255", **source})
    if dtype == np.uint8 and rule in RULES:
        return ToGrey(0, 255, {"rule": "unchanged", **source})
    if rule == "dtype" and dtype.kind == "f":
        raise RefusedError(f"{what} is {dtype}, which has no full range: use --grey percentile or --grey lo,hi")
    if rule == "dtype":
        lo, hi = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    elif rule == "range":
        lo, hi = limits()
    elif rule == "percentile":
        lo, hi = percentiles()
        lo, hi = (lo, hi) if lo < hi else limits()
    else:
        lo, hi = _explicit(rule)
    return ToGrey(lo, hi, {"rule": rule, "lo": lo, "hi": hi, **source, "clipped_fraction": outside(lo, hi)})


def _explicit(rule: str) -> tuple[float, float]:
    try:
        lo, hi = (float(part) for part in rule.split(","))
    except ValueError:
        raise UserError(f"--grey {rule!r} is none of {', '.join(RULES)} and no pair lo,hi such as 0,4095") from None
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise UserError(f"--grey {rule}: the first number has to be smaller than the second")
    return lo, hi


def _share_outside(pixels: Pixels, lo: float, hi: float) -> float:
    flat, number = np.ravel(pixels), 0
    for start in range(0, flat.size, _STEP):
        values = flat[start : start + _STEP].astype(np.float64)
        number += int(np.count_nonzero((values < lo) | (values > hi)))
    return number / flat.size


def _refuse_not_finite(pixels: Pixels, what: str) -> None:
    if pixels.dtype.kind == "f" and (wrong := int(np.count_nonzero(~np.isfinite(pixels)))):
        raise RefusedError(f"{what} has {wrong} pixels that are NaN or infinite: give them a grey value first")
