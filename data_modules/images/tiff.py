"""TIFF files: pages as sections, and ImageJ's stacks that are one page followed by all the others' pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from data_modules.images.image import Header, Pixels, RefusedError, Region, Volume, in_nm
from data_modules.images.raster import pages_in, read_open_page

_UNITS = {2: "inch", 3: "cm"}
"""Values of the tag ResolutionUnit."""
_COARSEST_NM = 1000.0
"""A resolution tag above this pixel size is a setting of a printer or screen (72 dpi are 353 µm)."""


@dataclass
class Pages:
    """An open TIFF file of one page or several.

    The last page is kept, since bands of it are read one after the other; the others are not.
    """

    header: Header
    tif: tifffile.TiffFile
    path: Path
    indices: list[int]
    _last: tuple[int, Pixels] | None = field(default=None, repr=False)

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.images.image.Volume`."""
        pages = [self._page(section) for section in range(region[0].start, region[0].stop)]
        if len({(page.shape, page.dtype) for page in pages}) > 1:
            raise RefusedError(f"{self.path} mixes pages of several sizes or types: save them as files of their own")
        return np.stack([page[region[1:]] for page in pages])

    def _page(self, section: int) -> Pixels:
        if self._last is None or self._last[0] != section:
            self._last = section, read_open_page(self.tif, self.path, self.indices[section]).pixels
        page = self._last[1]
        if page.shape != self.header.shape[1:]:
            raise RefusedError(
                f"{self.path} mixes sizes: page {section} is {page.shape}, not {self.header.shape[1:]} px: save "
                "the pages as files of their own"
            )
        return page


@dataclass(frozen=True)
class Block:
    """ImageJ's stack of one page, mapped into memory."""

    header: Header
    pixels: Pixels

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.images.image.Volume`."""
        return np.asarray(self.pixels[region]).astype(self.header.dtype, copy=False)


@contextmanager
def open_tiff(path: str) -> Iterator[Volume]:
    """Open a TIFF file.

    Pixel sizes come from OME-XML, from ImageJ's ``unit`` and ``spacing``, or from the resolution tag where that is in
    inches or centimetres and below 1 µm.

    Raises:
        UserError: if it is damaged or coloured.
    """
    with tifffile.TiffFile(path) as tif:
        sizes = _pixel_size(tif)
        shape = tuple(side for side in tif.series[0].shape if side > 1)
        block = len(tif.pages) == 1 and tif.is_imagej and tif.series[0].size > tif.pages[0].size
    if block:
        yield _block(path, shape, sizes)
        return
    indices = pages_in(Path(path))
    with tifffile.TiffFile(path) as tif:
        first = read_open_page(tif, Path(path), indices[0])
        y, x = first.pixels.shape
        size = sizes if sizes is None or len(indices) > 1 else sizes[-2:]
        header = Header("TIFF", (len(indices), y, x), first.pixels.dtype, size, remarks=first.remarks)
        yield Pages(header, tif, Path(path), indices, (0, first.pixels))


def _block(path: str, shape: tuple[int, ...], sizes: tuple[float, ...] | None) -> Volume:
    if len(shape) != 3:
        raise RefusedError(f"{path} holds a hyperstack {shape}: save one channel and one time point, as (Z, Y, X)")
    pixels = tifffile.memmap(path, mode="r").reshape(shape)
    return Block(Header("TIFF", (shape[0], shape[1], shape[2]), pixels.dtype.newbyteorder("="), sizes), pixels)


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
