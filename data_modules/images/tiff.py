"""TIFF files: pages as sections, and ImageJ's stacks that are one page followed by all the others' pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from data_modules.errors import UserError
from data_modules.images.image import Image, Pixels, RefusedError, Region, in_nm, stored_array
from data_modules.images.raster import Raw, look_up, one_channel

TIFF_SUFFIXES = (".tif", ".tiff")
_MIN_IS_WHITE, _PALETTE, _CMYK = 0, 3, 5
"""Values of the tag PhotometricInterpretation."""
_UNITS = {2: "inch", 3: "cm"}
"""Values of the tag ResolutionUnit."""
_COARSEST_NM = 1000.0
"""A resolution tag above this pixel size is a setting of a printer or screen (72 dpi are 353 µm)."""


@contextmanager
def open_tiff(path: str, page: int | None = None, as_values: bool = False) -> Iterator[Image]:
    """Open a TIFF file, its pixels as they are stored: orientation tags are not applied.

    Pixel sizes come from OME-XML, from ImageJ's ``unit`` and ``spacing``, or from the resolution tag where that is in
    inches or centimetres and below 1 µm.

    Args:
        path: The file.
        page: The one page that is wanted, whose pixel size is not looked for; all by default.
        as_values: Whether values are class numbers or ids: white-is-zero files are then not inverted and coloured
            palettes give their indices.

    Raises:
        UserError: if it is damaged or coloured.
    """
    sizes = None
    if page is None:
        # A file that was asked for its series takes pages for copies of the first one: it is opened again below.
        with tifffile.TiffFile(path) as tif:
            sizes, block, shape = _pixel_size(tif), is_block(tif) and tif.is_imagej, tif.series[0].shape
        if block:
            shape = tuple(side for side in shape if side > 1)
            if len(shape) != 3:
                raise RefusedError(
                    f"{path} holds a hyperstack {shape}: save one channel and one time point, as (Z, Y, X)"
                )
            pixels = tifffile.memmap(path, mode="r").reshape(shape)
            yield stored_array(path, "TIFF", pixels, pixels.dtype, pixel_size_nm=sizes)
            return
    indices = pages_in(Path(path)) if page is None else [page]
    with tifffile.TiffFile(path) as tif:
        yield _of_pages(tif, path, indices, sizes, as_values)


def _of_pages(
    tif: tifffile.TiffFile, path: str, indices: list[int], sizes: tuple[float, ...] | None, as_values: bool
) -> Image:
    first, remarks = _decode(tif, Path(path), indices[0], as_values)
    # The last page is kept, since bands of it are read one after the other.
    kept = {0: first}

    def section(number: int) -> Pixels:
        if number not in kept:
            kept.clear()
            kept[number] = _decode(tif, Path(path), indices[number], as_values)[0]
        found = kept[number]
        if found.shape != first_shape:
            raise RefusedError(
                f"{path} mixes sizes: page {number} is {found.shape}, not {first_shape} px: save "
                "the pages as files of their own"
            )
        return found

    def fetch(region: Region) -> Pixels:
        sections = [section(number)[region[1:]] for number in range(region[0].start, region[0].stop)]
        if len({found.dtype for found in sections}) > 1:
            raise RefusedError(f"{path} mixes pages of several sizes or types: save them as files of their own")
        return np.stack(sections)

    first_shape = first.shape
    size = sizes if sizes is None or len(indices) > 1 else sizes[-2:]
    return Image(path, "TIFF", (len(indices), *first_shape), first.dtype, fetch, size, remarks=remarks)


def is_block(tif: tifffile.TiffFile) -> bool:
    """Whether a file is one page, followed by all the others' pixels."""
    return bool(len(tif.pages) == 1 and tif.series[0].size > tif.pages[0].size)


def pages_in(path: Path) -> list[int]:
    """Indices of the full-resolution pages; thumbnails do not count.

    Raises:
        UserError: if the file is one ImageJ block without pages.
    """
    with tifffile.TiffFile(path) as tif:
        pages = [index for index, page in enumerate(tif.pages) if not page.is_reduced]
        if is_block(tif):
            raise UserError(f"{path} stores a stack {tif.series[0].shape} as one page: save it with one page a section")
    return pages


def page_shape(path: Path, index: int) -> tuple[int, int]:
    """Height and width of a page in px, from the header alone."""
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[index].imagelength), int(tif.pages[index].imagewidth)


def _decode(tif: tifffile.TiffFile, path: Path, index: int, as_values: bool) -> Raw:
    page = tif.pages[index]
    # Missing strips and tiles are filled with zeros by tifffile, which would be pixels that nobody took.
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    if any(count == 0 or offset + count > tif.filehandle.size for offset, count in segments):
        raise UserError(f"{path} (page {page.index}) is truncated: parts of its pixels are missing; copy it again")
    pixels = np.asarray(page.asarray())
    if page.photometric == _CMYK:
        raise UserError(f"{path} (page {index}) has CMYK colour: convert it to grey first")
    if page.photometric == _PALETTE:
        return look_up(pixels, np.asarray(page.colormap).T >> 8, path, as_values)
    if "S" in page.axes:
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1)
    raw = one_channel(pixels, path)
    return raw if as_values else _as_shown(raw, page, path)


def _as_shown(raw: Raw, page: Any, path: Path) -> Raw:
    """Undo codings in which the stored numbers are not grey values: white-is-zero, and 2 or 4 bits."""
    (pixels, remarks), bits = raw, int(page.bitspersample)
    if page.photometric == _MIN_IS_WHITE:
        if pixels.dtype.kind not in "bu":
            raise UserError(f"{path} declares white as zero for {pixels.dtype} pixels: save it with black as zero")
        pixels = ~pixels if pixels.dtype == bool else np.asarray(2**bits - 1 - pixels, pixels.dtype)
        remarks = (*remarks, "white is zero in the file: inverted")
    if pixels.dtype == np.uint8 and bits in (2, 4):
        pixels = pixels * np.uint8(255 // (2**bits - 1))
        remarks = (*remarks, f"{bits} bits stretched to 8")
    return pixels, remarks


def _pixel_size(tif: tifffile.TiffFile) -> tuple[float, ...] | None:
    if tif.is_ome:
        return _of_ome(tif.ome_metadata)
    imagej = (tif.imagej_metadata or {}) if tif.is_imagej else {}
    lateral = _of_resolution(tif.pages[0], imagej.get("unit"))
    if lateral is None or "spacing" not in imagej:
        return lateral
    spacing = in_nm((abs(float(imagej["spacing"])),), (imagej["unit"],))
    return lateral if spacing is None else (*spacing, *lateral)


def _of_ome(xml: str) -> tuple[float, ...] | None:
    pixels = next((node for node in ElementTree.fromstring(xml).iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    axes = [axis for axis in "ZYX" if f"PhysicalSize{axis}" in pixels.attrib]
    if axes[-2:] != ["Y", "X"]:
        return None
    values = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in axes]
    return in_nm(values, [pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm") for axis in axes])


def _of_resolution(page: Any, unit: str | None) -> tuple[float, ...] | None:
    stated = [page.tags[f"{axis}Resolution"].value for axis in "YX" if f"{axis}Resolution" in page.tags]
    if len(stated) < 2 or not all(top > 0 and bottom > 0 for top, bottom in stated):
        return None
    sides = [bottom / top for top, bottom in stated]
    if unit is not None:
        return in_nm(sides, (unit, unit))
    tag = _UNITS.get(int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 2)
    if tag is None:
        return None
    if tag == "inch":
        sides = [side * 2.54 for side in sides]
    lateral = in_nm(sides, ("cm", "cm"))
    return lateral if lateral is not None and max(lateral) < _COARSEST_NM else None
