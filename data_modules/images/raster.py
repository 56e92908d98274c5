"""PNG and JPEG files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from data_modules.errors import UserError
from data_modules.images.image import Header, Pixels, Region, Volume

PILLOW_SUFFIXES = (".png", ".jpg", ".jpeg")
TIFF_SUFFIXES = (".tif", ".tiff")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
SUFFIXES = (*PILLOW_SUFFIXES, *TIFF_SUFFIXES, *HDF5_SUFFIXES)

_MIN_IS_WHITE, _PALETTE, _CMYK = 0, 3, 5
"""Values of the TIFF tag PhotometricInterpretation."""


@dataclass(frozen=True)
class Raw:
    """Pixels as a file holds them.

    Attributes:
        pixels: ``(Y, X)``, any real data type; ``bool`` for 1-bit files.
        remarks: What had to be done to get one channel, for the provenance.
    """

    pixels: Pixels
    remarks: tuple[str, ...] = ()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises inside into a :class:`UserError` that names the file."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow, tifffile, imagecodecs and h5py raise a dozen unrelated types
        raise UserError(
            f"{path} cannot be read, it may be truncated or damaged ({error}): copy it again or remove it"
        ) from error


@contextmanager
def large_images() -> Iterator[None]:
    """Lift Pillow's pixel limit: a mosaic is larger than what it takes for an attack.

    The limit is the process's: where several threads read images, lift it around all of them too, or one restores it
    under another.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def pages_in(path: Path) -> list[int]:
    """Indices of the full-resolution pages of a PNG, JPEG or TIFF file; thumbnails inside a TIFF do not count.

    Raises:
        UserError: if the file cannot be read, or is one ImageJ block without pages.
    """
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return [0]
    with readable(path), tifffile.TiffFile(path) as tif:
        pages = [index for index, page in enumerate(tif.pages) if not page.is_reduced]
        if len(tif.pages) == 1 and tif.series[0].size > tif.pages[0].size:
            raise UserError(f"{path} stores a stack {tif.series[0].shape} as one page: save it with one page a section")
    return pages


def page_shape(path: Path, index: int, dataset: str | None) -> tuple[int, int]:
    """Height and width in px, from the header alone."""
    with readable(path):
        if dataset is not None:
            with h5py.File(path, "r") as file:
                y, x = file[dataset].shape[-2:]
        elif path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tif:
                y, x = tif.pages[index].imagelength, tif.pages[index].imagewidth
        else:
            with large_images(), Image.open(path, formats=("PNG", "JPEG")) as image:
                x, y = image.size
    return int(y), int(x)


def read_page(path: Path, index: int = 0, dataset: str | None = None, as_values: bool = False) -> Raw:
    """Read one page, as its pixels are stored (orientation tags are not applied).

    Args:
        path: PNG, JPEG, TIFF or HDF5 file.
        index: Page of a TIFF, or section of a 3D HDF5 dataset.
        dataset: Name inside an HDF5 file.
        as_values: Whether values are class numbers or ids rather than grey: white-is-zero TIFFs are then not inverted
            and coloured palettes give their indices.

    Returns:
        The pixels, ``(Y, X)``.

    Raises:
        UserError: if the file is damaged, coloured or transparent; the message names it.
    """
    with readable(path):
        if dataset is not None:
            with h5py.File(path, "r") as file:
                stored = file[dataset]
                return Raw(np.asarray(stored[index] if stored.ndim == 3 else stored[()]))
        if path.suffix.lower() in TIFF_SUFFIXES:
            with tifffile.TiffFile(path) as tif:
                return _read_tiff(tif, path, index, as_values)
        with large_images():
            return _read_pillow(path, as_values)


def read_open_page(tif: tifffile.TiffFile, path: Path, index: int) -> Raw:
    """Read one page as :func:`read_page` does, of a TIFF that is open already.

    To open a file for page k costs k steps along its chain of pages, so that a stack is read faster this way. Nobody
    may have asked ``tif`` for its series: tifffile then takes pages for copies of the first one in all but their
    pixels.

    Args:
        tif: The open file.
        path: Of it, for messages.
        index: Of the page.

    Raises:
        UserError: as :func:`read_page`.
    """
    with readable(path):
        return _read_tiff(tif, path, index, as_values=False)


def _read_pillow(path: Path, as_values: bool) -> Raw:
    with Image.open(path, formats=("PNG", "JPEG")) as image:
        # Decoding stops at the last row and never looks at the checksums of a PNG.
        image.verify()
    with Image.open(path, formats=("PNG", "JPEG")) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{path} is an animation: save every frame as an image of its own")
        coding = str(image.tile[0][3]) if image.tile else ""
        if image.mode in ("LA", "RGB", "RGBA") and re.search(r"\b16", coding):
            # Pillow would drop the lower byte of 16-bit colour without a word.
            return _one_channel(imagecodecs.png_decode(path.read_bytes()), path)
        image.load()
        _refuse_transparency(image, path)
        if image.mode == "P":
            palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return _look_up(np.asarray(image), palette, path, as_values)
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F"):
            raise UserError(f"{path} has colour mode {image.mode}: convert it to grey first")
        return _one_channel(np.asarray(image), path)


def _refuse_transparency(image: Image.Image, path: Path) -> None:
    mark = image.info.get("transparency")
    if mark is None:
        return
    if image.mode.startswith("I"):
        transparent = bool((np.asarray(image) == mark).any())
    else:
        transparent = image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    if transparent:
        raise UserError(f"{path} has transparent pixels, whose grey value is unknown: flatten it first")


def _read_tiff(tif: tifffile.TiffFile, path: Path, index: int, as_values: bool) -> Raw:
    page = tif.pages[index]
    _check_segments(page, tif.filehandle.size, path)
    pixels = np.asarray(page.asarray())
    if page.photometric == _CMYK:
        raise UserError(f"{path} (page {index}) has CMYK colour: convert it to grey first")
    if page.photometric == _PALETTE:
        return _look_up(pixels, np.asarray(page.colormap).T >> 8, path, as_values)
    if "S" in page.axes:
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1)
    raw = _one_channel(pixels, path)
    return raw if as_values else _as_shown(raw, page, path)


def _check_segments(page: Any, file_size: int, path: Path) -> None:
    """Missing strips and tiles are filled with zeros by tifffile, which would be pixels that nobody took."""
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    if any(count == 0 or offset + count > file_size for offset, count in segments):
        raise UserError(f"{path} (page {page.index}) is truncated: parts of its pixels are missing; copy it again")


def _as_shown(raw: Raw, page: Any, path: Path) -> Raw:
    """Undo codings in which the stored numbers are not grey values: white-is-zero, and 2 or 4 bits."""
    pixels, remarks, bits = raw.pixels, raw.remarks, int(page.bitspersample)
    if page.photometric == _MIN_IS_WHITE:
        if pixels.dtype.kind not in "bu":
            raise UserError(f"{path} declares white as zero for {pixels.dtype} pixels: save it with black as zero")
        pixels = ~pixels if pixels.dtype == bool else np.asarray(2**bits - 1 - pixels, pixels.dtype)
        remarks = (*remarks, "white is zero in the file: inverted")
    if pixels.dtype == np.uint8 and bits in (2, 4):
        pixels = pixels * np.uint8(255 // (2**bits - 1))
        remarks = (*remarks, f"{bits} bits stretched to 8")
    return Raw(pixels, remarks)


def _look_up(indices: Pixels, palette: Pixels, path: Path, as_values: bool) -> Raw:
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=len(palette)))
    if used[-1] >= len(palette):
        raise UserError(f"{path} uses colour {used[-1]} of a palette of {len(palette)}: it is damaged, copy it again")
    if (palette[used] == palette[used, :1]).all():
        return Raw(palette[:, 0].astype(np.uint8)[indices], ("palette of greys looked up",))
    if as_values:
        return Raw(indices, ("coloured palette: its indices are the values",))
    raise UserError(f"{path} has a palette with colours: convert it to grey first")


def _one_channel(pixels: Pixels, path: Path) -> Raw:
    if pixels.ndim == 2:
        return Raw(pixels)
    channels = pixels.shape[-1]
    if pixels.ndim != 3 or not 1 <= channels <= 4:
        raise UserError(f"{path} holds an array {pixels.shape}: only 2D pages with 1, 3 or 4 channels can be read")
    remarks = []
    if channels in (2, 4):
        opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
        if not (pixels[..., -1] == opaque).all():
            raise UserError(f"{path} has an alpha channel that is not opaque: flatten it to grey first")
        remarks.append("opaque alpha channel dropped")
    grey = pixels[..., 0]
    if channels >= 3:
        if not all(np.array_equal(grey, pixels[..., other]) for other in (1, 2)):
            raise UserError(
                f"{path} has real colour (red, green and blue differ): convert it to grey first, "
                "or save it with one page a section if it is a stack of three or four"
            )
        remarks.append("three equal colour channels: one kept")
    return Raw(np.ascontiguousarray(grey), tuple(remarks))


@dataclass(frozen=True)
class RasterImage:
    """One decoded image, held in memory."""

    header: Header
    pixels: Pixels

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.images.image.Volume`."""
        return self.pixels[None, region[1], region[2]]


@contextmanager
def open_image(path: str) -> Iterator[Volume]:
    """Open a PNG or JPEG file; its resolution tag is of printers and is not taken for a pixel size.

    Raises:
        UserError: if it is damaged, coloured or transparent.
    """
    raw = read_page(Path(path))
    y, x = raw.pixels.shape
    name = "PNG" if path.lower().endswith(".png") else "JPEG"
    yield RasterImage(Header(name, (1, y, x), raw.pixels.dtype, scattered=True, remarks=raw.remarks), raw.pixels)
