"""PNG and JPEG files, and what all formats share to get one channel of grey from a page."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import PIL.Image

from data_modules.errors import UserError
from data_modules.images.image import Image, Pixels, stored_array

Raw = tuple[Pixels, tuple[str, ...]]
"""Pixels ``(Y, X)`` as a file holds them, and what had to be done to get one channel."""
_FORMATS = ("PNG", "JPEG")


@contextmanager
def large_images() -> Iterator[None]:
    """Lift Pillow's pixel limit: a mosaic is larger than what it takes for an attack.

    The limit is the process's: where several threads read images, lift it around all of them too, or one restores it
    under another.
    """
    limit = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit


def raster_shape(path: Path) -> tuple[int, int]:
    """Height and width of a PNG or JPEG file in px, from the header alone."""
    with large_images(), PIL.Image.open(path, formats=_FORMATS) as image:
        return image.height, image.width


@contextmanager
def open_raster(path: str, as_values: bool = False) -> Iterator[Image]:
    """Open a PNG or JPEG file, decoded as its pixels are stored: orientation tags are not applied.

    Its resolution tag is of printers and is not taken for a pixel size.

    Args:
        path: The file.
        as_values: Whether values are class numbers or ids, so that coloured palettes give their indices.

    Raises:
        UserError: if it is damaged, coloured or transparent.
    """
    with large_images():
        pixels, remarks = _decode(Path(path), as_values)
    name = "PNG" if path.lower().endswith(".png") else "JPEG"
    yield stored_array(path, name, pixels, pixels.dtype, scattered=True, remarks=remarks)


def _decode(path: Path, as_values: bool) -> Raw:
    with PIL.Image.open(path, formats=_FORMATS) as image:
        # Decoding stops at the last row and never looks at the checksums of a PNG.
        image.verify()
    with PIL.Image.open(path, formats=_FORMATS) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{path} is an animation: save every frame as an image of its own")
        coding = str(image.tile[0][3]) if image.tile else ""
        if image.mode in ("LA", "RGB", "RGBA") and re.search(r"\b16", coding):
            # Pillow would drop the lower byte of 16-bit colour without a word.
            return one_channel(imagecodecs.png_decode(path.read_bytes()), path)
        image.load()
        _refuse_transparency(image, path)
        if image.mode == "P":
            palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            return look_up(np.asarray(image), palette, path, as_values)
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F"):
            raise UserError(f"{path} has colour mode {image.mode}: convert it to grey first")
        return one_channel(np.asarray(image), path)


def _refuse_transparency(image: PIL.Image.Image, path: Path) -> None:
    mark = image.info.get("transparency")
    if mark is None:
        return
    if image.mode.startswith("I"):
        transparent = bool((np.asarray(image) == mark).any())
    else:
        transparent = image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    if transparent:
        raise UserError(f"{path} has transparent pixels, whose grey value is unknown: flatten it first")


def look_up(indices: Pixels, palette: Pixels, path: Path, as_values: bool) -> Raw:
    """Replace the indices of a palette by its greys, or keep them as values.

    Raises:
        UserError: if the palette is too short, or has colours where grey is asked for.
    """
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=len(palette)))
    if used[-1] >= len(palette):
        raise UserError(f"{path} uses colour {used[-1]} of a palette of {len(palette)}: it is damaged, copy it again")
    if (palette[used] == palette[used, :1]).all():
        return palette[:, 0].astype(np.uint8)[indices], ("palette of greys looked up",)
    if as_values:
        return indices, ("coloured palette: its indices are the values",)
    raise UserError(f"{path} has a palette with colours: convert it to grey first")


def one_channel(pixels: Pixels, path: Path) -> Raw:
    """Drop channels ``(Y, X, C)`` that say nothing: opaque alpha, and colours that are equal.

    Raises:
        UserError: if there is real colour or transparency.
    """
    if pixels.ndim == 2:
        return pixels, ()
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
    return np.ascontiguousarray(grey), tuple(remarks)
