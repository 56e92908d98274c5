"""Volumes of any format as stacks of sections that are read a slab at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from data_modules.errors import UserError
from data_modules.images.image import Pixels, Volume
from data_modules.images.opening import open_volume
from data_modules.images.pages import HDF5_SPEC, Page, find_images
from data_modules.images.raster import TIFF_SUFFIXES, readable

_AT_ONCE = 8
"""Sections read together: files that store volumes in pieces would unpack each piece again for every section."""


@dataclass(frozen=True)
class Stack:
    """An open volume.

    Attributes:
        what: The file or folder, for messages.
        record: The same, JSON-ready, for the provenance; no path of a machine in it.
        shape: ``(Z, Y, X)`` in px.
        dtype: Of the pixels, never ``bool``.
        read: Gives the sections from the first number to the one before the second, ``(z, Y, X)``.
        pixel_size_nm: ``(Z, Y, X)`` where the file states it.
    """

    what: str
    record: Mapping[str, Any]
    shape: tuple[int, int, int]
    dtype: "np.dtype[Any]"
    read: Callable[[int, int], Pixels]
    pixel_size_nm: tuple[float, ...] | None = None

    def sections(self, start: int, stop: int) -> Iterator[Pixels]:
        """Sections ``(Y, X)`` from ``start`` to before ``stop``, read a few at a time."""
        for first in range(start, stop, _AT_ONCE):
            yield from self.read(first, min(first + _AT_ONCE, stop))


Source = Callable[[], AbstractContextManager[Stack]]
"""Opens a stack; nothing is opened before it is called."""


@contextmanager
def open_stack(spec: str, as_values: bool = False) -> Iterator[Stack]:
    """Open a folder of sections, a stack in one file, or a dataset of an HDF5 file.

    Args:
        spec: A folder of images (in natural order of their names, each page a section), a TIFF, NIfTI or MRC file, or
            ``FILE.h5:dataset`` (the dataset may be left out where the file holds one only).
        as_values: Whether pixels are class numbers or ids rather than grey, so that palettes give their indices.

    Raises:
        UserError: if there is nothing to read, it cannot be read, or sections differ in size or type.
    """
    match = HDF5_SPEC.fullmatch(spec)
    path = Path(match["file"] if match else spec)
    dataset = match["dataset"] if match else None
    if not path.exists():
        raise UserError(f"{path} does not exist: give a folder of sections, a TIFF or NIfTI file, or FILE.h5:dataset")
    if path.is_dir() or (as_values and path.suffix.lower() in TIFF_SUFFIXES and not _is_one_block(path)):
        with open_pages(find_images(spec), path, as_values) as stack:
            yield stack
        return
    with open_volume(str(path), dataset) as volume:
        record: dict[str, Any] = {"source": path.name, "reading": list(volume.header.remarks)}
        if dataset is not None:
            record["dataset"] = dataset
        yield _of_volume(volume, spec, record, as_values)


@contextmanager
def open_pages(pages: Sequence[Page], place: Path, as_values: bool = False) -> Iterator[Stack]:
    """Open pages as the sections of one stack; 1-bit pages become 0 and 255, as values 0 and 1.

    Args:
        pages: At least one, in order.
        place: Their folder or file.
        as_values: See :func:`open_stack`.

    Raises:
        UserError: as :func:`of_pages`.
    """
    white = 1 if as_values else 255
    yield of_pages(pages, str(place), place.name, lambda page: in_bytes(page.read(as_values).pixels, white))


def of_pages(pages: Sequence[Page], what: str, source: str, read: Callable[[Page], Pixels]) -> Stack:
    """Pages as the sections of one stack.

    Args:
        pages: At least one, in order.
        what: Their folder or file, for messages.
        source: The same, for the provenance.
        read: Decodes one page to ``(Y, X)``, never of ``bool``.

    Raises:
        UserError: if their sizes differ; reading raises it if their types do.
    """
    shape = pages[0].shape()
    for page in pages:
        if page.shape() != shape:
            raise UserError(
                f"{page.what} is {page.shape()} px but {pages[0].what} is {shape}: sections of a volume are of one size"
            )

    dtype = read(pages[0]).dtype

    def slab(start: int, stop: int) -> Pixels:
        sections = np.empty((stop - start, *shape), dtype)
        for place, page in enumerate(pages[start:stop]):
            pixels = read(page)
            if pixels.dtype != dtype:
                raise UserError(f"{page.what} is {pixels.dtype} but {pages[0].what} is {dtype}: save them as one type")
            sections[place] = pixels
        return sections

    record = {"source": source, "first": pages[0].source, "last": pages[-1].source, "sections": len(pages)}
    return Stack(what, record, (len(pages), *shape), dtype, slab)


def without_rows(stack: Stack, rows: int) -> Stack:
    """The stack less its first ``rows`` rows along Y.

    Raises:
        UserError: if it has no more rows than that.
    """
    z, y, x = stack.shape
    if rows >= y:
        raise UserError(f"{stack.what} has {y} rows, and the first {rows} are to be cut off: is it the whole file?")
    record = {**stack.record, "rows_cut_off": rows}
    return Stack(
        stack.what,
        record,
        (z, y - rows, x),
        stack.dtype,
        lambda start, stop: stack.read(start, stop)[:, rows:],
        stack.pixel_size_nm,
    )


def only_sections(stack: Stack, first: int, last: int) -> Stack:
    """The stack's sections from ``first`` to ``last``, both included.

    Raises:
        UserError: if it does not have them.
    """
    depth, y, x = stack.shape
    if not 0 <= first <= last < depth:
        raise UserError(f"{stack.what} has the sections 0-{depth - 1}, and not {first}-{last}: give others")
    return Stack(
        stack.what,
        {**stack.record, "only_sections": [first, last]},
        (last - first + 1, y, x),
        stack.dtype,
        lambda start, stop: stack.read(first + start, first + stop),
        stack.pixel_size_nm,
    )


def in_bytes(pixels: Pixels, white: int) -> Pixels:
    """1-bit pixels as ``uint8`` of 0 and ``white``, others as they are: masks may mix both, section by section."""
    return pixels.astype(np.uint8) * np.uint8(white) if pixels.dtype == bool else pixels


def _of_volume(volume: Volume, what: str, record: Mapping[str, Any], as_values: bool) -> Stack:
    header = volume.header
    _, y, x = header.shape

    def slab(start: int, stop: int) -> Pixels:
        return in_bytes(volume.read((slice(start, stop), slice(0, y), slice(0, x))), 1 if as_values else 255)

    size = header.pixel_size_nm if header.pixel_size_nm is not None and len(header.pixel_size_nm) == 3 else None
    dtype = np.dtype(np.uint8) if header.dtype == bool else header.dtype
    return Stack(what, record, header.shape, dtype, slab, size)


def _is_one_block(path: Path) -> bool:
    """Whether a TIFF is ImageJ's stack of one page, followed by all the others' pixels."""
    with readable(path), tifffile.TiffFile(path) as tif:
        return bool(len(tif.pages) == 1 and tif.is_imagej and tif.series[0].size > tif.pages[0].size)
