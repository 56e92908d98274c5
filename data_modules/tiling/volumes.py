"""What a file holds, read lazily: the one interface that every format fills."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_modules.errors import UserError

Pixels = NDArray[Any]
Region = tuple[slice, slice, slice]
"""Sections, rows and columns, each with start and stop inside the volume."""


class RefusedError(UserError):
    """One file that cannot be tiled; the others can."""


@dataclass(frozen=True)
class Header:
    """What is known of a volume before its pixels are read.

    Attributes:
        format: Name for people, such as ``TIFF``.
        shape: ``(Z, Y, X)`` in px; a 2D image has one section.
        dtype: Of the pixels.
        pixel_size_nm: ``(Z, Y, X)``, or ``(Y, X)`` where there is one section or Z is unknown; ``None`` where unknown.
        depth: Number of sections that are stored together, so that reading them together is cheapest.
        frames: Whether sections follow one another in time, so that there is no third dimension.
        scattered: Whether small regions are read fast, and from several threads at once.
        remarks: What is odd about the file.
    """

    format: str
    shape: tuple[int, int, int]
    dtype: "np.dtype[Any]"
    pixel_size_nm: tuple[float, ...] | None = None
    depth: int = 1
    frames: bool = False
    scattered: bool = False
    remarks: tuple[str, ...] = ()


class Volume(Protocol):
    """Pixels of a file."""

    @property
    def header(self) -> Header:
        """What is known before pixels are read."""
        ...

    def read(self, region: Region) -> Pixels:
        """Pixels ``(z, y, x)`` of a region inside the volume, of the header's data type."""
        ...


Opened = AbstractContextManager[Volume]


@contextmanager
def refusing(what: str) -> Iterator[None]:
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


class Guarded:
    """A volume whose failures name the file and stop that file alone.

    Args:
        volume: To be read.
        what: Its file, for messages.

    Raises:
        RefusedError: if there are no pixels, or their type is none of bool, integer and floating point.
    """

    def __init__(self, volume: Volume, what: str) -> None:
        self._volume = volume
        self._what = what
        header = volume.header
        if min(header.shape) < 1:
            raise RefusedError(f"{what} has no pixels (it is {header.shape}): remove it")
        if header.dtype.kind not in "biuf":
            raise RefusedError(f"{what} holds {header.dtype} values: save it as grey integers or floating point")

    @property
    def header(self) -> Header:
        """Of the volume."""
        return self._volume.header

    def read(self, region: Region) -> Pixels:
        """As :meth:`Volume.read`.

        Raises:
            RefusedError: if the pixels cannot be read, or are of another shape or type than the header says.
        """
        with refusing(self._what):
            pixels = self._volume.read(region)
            shape = tuple(part.stop - part.start for part in region)
            if pixels.shape != shape or pixels.dtype != self.header.dtype:
                raise RefusedError(
                    f"{self._what} mixes types or sizes: {pixels.dtype} {pixels.shape} in section "
                    f"{region[0].start}, not {self.header.dtype} {shape}: save them as files of their own"
                )
            return pixels


def last_axes_are_colours(shape: tuple[int, ...]) -> bool:
    """Whether an array looks like ``(Y, X, channels)`` rather than sections."""
    return len(shape) == 3 and shape[-1] <= 4 < min(shape[:2])
