"""Lazy image that every format opens as, with its voxel size."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError
from data_modules.geometry import is_isotropic

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


HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
"""Ends of files that hold several arrays."""
_HDF5_SPEC = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, HDF5_SUFFIXES))})):(.+)", re.IGNORECASE)


def split_dataset(spec: str) -> tuple[str, str | None]:
    """Split ``FILE.h5:dataset`` into file and dataset; anything else is a path without a dataset.

    >>> split_dataset("raw/a.h5:volumes/raw"), split_dataset("raw/a.h5")
    (('raw/a.h5', 'volumes/raw'), ('raw/a.h5', None))
    """
    match = _HDF5_SPEC.fullmatch(spec)
    return (match[1], match[2]) if match else (spec, None)


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


Pixels = NDArray[Any]
Region = tuple[slice, slice, slice]
"""Sections, rows and columns, each with start and stop inside the image."""
_AT_ONCE = 8
"""Sections read together: files that store volumes in pieces would unpack each piece again for every section."""


class RefusedError(UserError):
    """One file that cannot be used; others can."""


@contextmanager
def refusing(what: object) -> Iterator[None]:
    """Turn whatever a decoder raises inside into :class:`RefusedError`, naming the file."""
    try:
        yield
    except (RefusedError, MemoryError):
        raise
    except UserError as error:
        raise RefusedError(str(error)) from error
    except Exception as error:  # the libraries of nine formats raise dozens of unrelated types
        cause = str(error) or type(error).__name__
        raise RefusedError(
            f"{what} cannot be read, it may be truncated or damaged ({cause}): copy it again or remove it"
        ) from error


@dataclass(frozen=True)
class Image:
    """Lazy image of one file, folder or page: three axes, of which a page has one section.

    Attributes:
        what: File or folder, for messages.
        format: Name for people, such as ``TIFF``.
        shape: Sections, rows and columns in px.
        dtype: Data type of the pixels: bool, integer or floating point.
        fetch: Decoder of a region; callers use :meth:`read`, which checks what it gives.
        pixel_size_nm: ``(Z, Y, X)``, or ``(Y, X)`` where there is one section or Z is unknown; ``None`` where unknown.
        depth: Number of sections that are stored together, so that reading them together is cheapest.
        frames: Whether sections follow one another in time, so that there is no third dimension.
        scattered: Whether small regions are read fast, and from several threads at once.
        remarks: Oddities of the file, and what had to be done to get one channel of grey.
        record: JSON-ready origin for the provenance, without a path of this machine.

    Raises:
        RefusedError: if there are no pixels, or their type is none of bool, integer and floating point.
    """

    what: str
    format: str
    shape: tuple[int, int, int]
    dtype: "np.dtype[Any]"
    fetch: Callable[[Region], Pixels]
    pixel_size_nm: tuple[float, ...] | None = None
    depth: int = 1
    frames: bool = False
    scattered: bool = False
    remarks: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise RefusedError(f"{self.what} has no pixels (it is {self.shape}): remove it")
        if self.dtype.kind not in "biuf":
            raise RefusedError(f"{self.what} holds {self.dtype} values: save it as grey integers or floating point")

    def read(self, region: Region) -> Pixels:
        """Read a region inside the image, ``(z, y, x)`` of the image's data type.

        Raises:
            RefusedError: if the pixels cannot be read, or are of another shape or type than the image.
        """
        with refusing(self.what):
            pixels = self.fetch(region)
            shape = tuple(part.stop - part.start for part in region)
            if pixels.shape != shape or pixels.dtype != self.dtype:
                raise RefusedError(
                    f"{self.what} mixes types or sizes: {pixels.dtype} {pixels.shape} in section "
                    f"{region[0].start}, not {self.dtype} {shape}: save them as files of their own"
                )
            return pixels

    def sections(self, start: int = 0, stop: int | None = None) -> Iterator[Pixels]:
        """Read sections ``(Y, X)`` from ``start`` to before ``stop``, a few at a time."""
        depth, height, width = self.shape
        stop = depth if stop is None else stop
        for first in range(start, stop, _AT_ONCE):
            yield from self.read((slice(first, min(first + _AT_ONCE, stop)), slice(0, height), slice(0, width)))

    def crop(self, first: int = 0, stop: int | None = None, row: int = 0, **record: Any) -> "Image":
        """Leave out sections and rows.

        Args:
            first: First section.
            stop: Section after the last one; all by default.
            row: First row.
            **record: Account of it, for the provenance.
        """
        depth, height, width = self.shape

        def fetch(region: Region) -> Pixels:
            z, y, x = region
            return self.read((slice(z.start + first, z.stop + first), slice(y.start + row, y.stop + row), x))

        shape = ((depth if stop is None else stop) - first, height - row, width)
        return replace(self, shape=shape, fetch=fetch, record={**self.record, **record})


Opened = AbstractContextManager[Image]


def to_bytes(pixels: Pixels, white: int) -> Pixels:
    """1-bit pixels as ``uint8`` of 0 and ``white``, others as they are: masks may mix both, section by section."""
    return pixels.astype(np.uint8) * np.uint8(white) if pixels.dtype == bool else pixels


def stored_array(what: str, name: str, pixels: Any, dtype: "np.dtype[Any]", **header: Any) -> Image:
    """Image of an array ``(Z, Y, X)`` or ``(Y, X)`` that can be sliced, in memory or in an open file.

    Args:
        what: File, for messages.
        name: Name of the format.
        pixels: Array whose slices become NumPy arrays; one of ``(Y, X)`` has one section.
        dtype: Its type; that of the image is of this machine's byte order.
        **header: Further attributes of the image.
    """
    flat, native = len(pixels.shape) == 2, dtype.newbyteorder("=")

    def fetch(region: Region) -> Pixels:
        found = np.asarray(pixels[region[1:]])[None] if flat else np.asarray(pixels[region])
        return found.astype(native, copy=False)

    return Image(what, name, (1, *pixels.shape) if flat else tuple(pixels.shape), native, fetch, **header)


def last_axes_are_colours(shape: tuple[int, ...]) -> bool:
    """Whether an array looks like ``(Y, X, channels)`` rather than sections."""
    return len(shape) == 3 and shape[-1] <= 4 < min(shape[:2])


_COARSER = 1.2
"""How many times coarser than both others a voxel is along the axis of the sections, at least."""
_FEWER = 2
"""How many times fewer voxels than both others an axis has that must be that of the sections: stacks are cut out of
wide sections, but a stack of more sections than a crop of them has rows is nothing unusual."""


def doubtful_axes(shape: Sequence[int], pixel_size_nm: Sequence[float]) -> str | None:
    """What speaks against the order Z, Y, X.

    Sections are thicker than their pixels are wide, and there are fewer of them than they have rows or columns: the
    axis of the coarsest voxels should be the first, and no other should have far fewer voxels. Isotropic voxels, or
    such that are coarse along two axes, tell nothing.

    Args:
        shape: Sides of the volume in px, three, said to be Z, Y, X.
        pixel_size_nm: Sides of its voxels along the same axes.

    Returns:
        A sentence with shape and voxel size, ``None`` where nothing is wrong.

    >>> doubtful_axes((125, 1250, 1250), (40, 4, 4))
    >>> doubtful_axes((700, 512, 64), (5, 5, 5))
    """
    sizes = tuple(float(size) for size in pixel_size_nm)
    if is_isotropic(sizes):
        return None
    coarse = max(range(3), key=sizes.__getitem__)
    if sizes[coarse] < _COARSER * sorted(sizes)[1]:
        return None
    few = min(range(3), key=shape.__getitem__)
    if coarse != 0:
        what = f"{sizes[coarse]:g} nm, the coarsest side, is that of axis {coarse}"
    elif few != 0 and sorted(shape)[1] >= _FEWER * shape[few]:
        what = f"axis {few} has by far the fewest voxels"
    else:
        return None
    sides = ", ".join(f"{size:g}" for size in sizes)
    return f"{tuple(shape)} px of ({sides}) nm cannot well be Z, Y, X: sections lie along axis 0, but {what}"
