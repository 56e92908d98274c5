"""PNG and JPEG files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data_modules.convert.decode import read_page
from data_modules.tiling.volumes import Header, Pixels, Region, Volume


@dataclass(frozen=True)
class Image:
    """One decoded image, held in memory."""

    header: Header
    pixels: Pixels

    def read(self, region: Region) -> Pixels:
        """See :class:`~data_modules.tiling.volumes.Volume`."""
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
    yield Image(Header(name, (1, y, x), raw.pixels.dtype, scattered=True, remarks=raw.remarks), raw.pixels)
