"""Pixel sizes as files and people state them, in nm."""

import math
from collections.abc import Mapping, Sequence

from data_modules.errors import UserError

NM_PER_UNIT: Mapping[str, float] = {
    "angstrom": 0.1,
    "å": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "micron": 1e3,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "millimeter": 1e6,
    "mm": 1e6,
    "cm": 1e7,
    "meter": 1e9,
    "m": 1e9,
}
"""By the name of a unit in lower case; ``\\u00b5m`` is how ImageJ escapes it."""


def in_nm(values: Sequence[float], units: Sequence[str | None]) -> tuple[float, ...] | None:
    """Lengths in nm, ``None`` where one of them has no known unit or is no positive number."""
    factors = [NM_PER_UNIT.get((unit or "").lower()) for unit in units]
    lengths = [
        value * factor
        for value, factor in zip(values, factors, strict=True)
        if factor is not None and math.isfinite(value) and value > 0
    ]
    return tuple(lengths) if len(lengths) == len(values) else None


def parse_pixel_size(text: str, where: str) -> tuple[float, ...] | None:
    """Read ``4``, ``4,4`` (Y, X) or ``45,4.6,4.6`` (Z, Y, X) nm; nothing at all is ``None``.

    Args:
        text: Numbers separated by commas or blanks; one is that of Y and X.
        where: The option or file, for messages.

    Raises:
        UserError: if these are not one to three positive numbers.
    """
    words = text.replace(",", " ").split()
    if not words:
        return None
    try:
        sizes = tuple(float(word) for word in words)
    except ValueError:
        sizes = ()
    if not 1 <= len(sizes) <= 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise UserError(f"{where}: {text!r} is no pixel size in nm: give one number, Y,X, or Z,Y,X, e.g. 45,4.6,4.6")
    return sizes


def fit_axes(sizes: tuple[float, ...], sections: int) -> tuple[float, ...]:
    """Pixel size of a source: ``(Z, Y, X)``, or ``(Y, X)`` where Z is not stated or there is one section.

    One number says nothing about Z, since most stacks of one known number are serial sections.

    >>> fit_axes((4.0,), 30), fit_axes((45.0, 4.6, 4.6), 30), fit_axes((45.0, 4.6, 4.6), 1)
    ((4.0, 4.0), (45.0, 4.6, 4.6), (4.6, 4.6))
    """
    full = sizes * 2 if len(sizes) == 1 else sizes
    return full[-2:] if sections == 1 else full


def is_isotropic(pixel_size_nm: tuple[float, ...] | None) -> bool:
    """Whether Z differs by less than 20 % from Y and from X (Conrad and Narayan 2021); unknown sizes do not."""
    if pixel_size_nm is None or len(pixel_size_nm) < 3:
        return False
    z, *lateral = pixel_size_nm
    # Exactly a fifth is too much, also where it comes as 9.6 and 8 in binary or from 32 bits.
    return all(abs(z - side) < 0.2 * side * (1 - 1e-6) for side in lateral)
