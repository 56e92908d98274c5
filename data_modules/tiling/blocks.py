"""Reading a volume once from front to back, in pieces that fit into memory, and making it smaller on the way."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_modules.images.image import Header, Pixels, Region
from data_modules.tile_set import SIDE

BLOCK_PX = 2**24
"""Largest piece, unless a row of tiles is larger."""
LIMIT_PX = 5_000_000_000
"""Of a source: 5 GB as 8 bit, which is what it becomes (Conrad and Narayan 2021 have 5 GB)."""


@dataclass(frozen=True)
class Shrink:
    """Means over boxes of whole pixels; a rest that fills no box at the far end of an axis is left out.

    Attributes:
        z: Sections to a section.
        lateral: Rows to a row and columns to a column.
    """

    z: int = 1
    lateral: int = 1

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Of a volume of this shape afterwards."""
        return shape[0] // self.z, shape[1] // self.lateral, shape[2] // self.lateral

    def pixel_size(self, size: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """In nm afterwards, of ``(Z, Y, X)`` or ``(Y, X)``."""
        if size is None:
            return None
        return (*(side * self.z for side in size[:-2]), *(side * self.lateral for side in size[-2:]))

    def apply(self, block: Pixels) -> Pixels:
        """Means of ``(z, y, x)`` as ``float64``, or the block itself where nothing is to be done."""
        if self.z == self.lateral == 1:
            return block
        z, y, x = self.shape((block.shape[0], block.shape[1], block.shape[2]))
        inside = block[: z * self.z, : y * self.lateral, : x * self.lateral]
        boxes = inside.reshape(z, self.z, y, self.lateral, x, self.lateral)
        return np.asarray(boxes.mean(axis=(1, 3, 5), dtype=np.float64))


def shrink_for(shape: tuple[int, int, int], isotropic: bool, limit_px: int = LIMIT_PX) -> Shrink:
    """The smallest whole factor that brings a source below the limit; along Z only where it is isotropic."""
    factor = 1
    while True:
        shrink = Shrink(min(factor, shape[0]) if isotropic else 1, factor)
        if np.prod(shrink.shape(shape), dtype=np.int64) <= limit_px:
            return shrink
        factor += 1


def blocks(header: Header, shrink: Shrink, block_px: int | None = None) -> Iterator[Region]:
    """Regions that cover a volume once, section by section and from top to bottom; columns are never divided.

    Sections are multiples of the shrink factor, rows of the factor times 224, so that no tile lies in two regions.

    Args:
        header: Header of the volume.
        shrink: Factors that blocks are shrunk by afterwards.
        block_px: Largest number of pixels in a region, where rows allow it; :data:`BLOCK_PX` by default.
    """
    block_px = BLOCK_PX if block_px is None else block_px
    sections, rows, columns = header.shape
    step = SIDE * shrink.lateral
    together = -(-header.depth // shrink.z) * shrink.z
    fitting = block_px // (min(step, rows) * columns) // shrink.z * shrink.z
    depth = max(shrink.z, min(together, fitting))
    if whole := block_px // (rows * columns) // depth * depth:
        depth, height = whole, rows
    else:
        height = max(1, block_px // (depth * columns) // step) * step
    for z in range(0, sections, depth):
        for y in range(0, rows, height):
            yield slice(z, min(z + depth, sections)), slice(y, min(y + height, rows)), slice(0, columns)


def shrunk(region: Region, shrink: Shrink) -> Region:
    """The region that a block fills once it is shrunk; what fills no box at the far end is left out."""
    z, y, x = region
    lateral = shrink.lateral
    return (
        slice(z.start // shrink.z, z.stop // shrink.z),
        slice(y.start // lateral, y.stop // lateral),
        slice(x.start // lateral, x.stop // lateral),
    )
