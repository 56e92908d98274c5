"""All tiles of a source, from its pixels to batches in the order in which they are stored."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.images.image import Volume
from data_modules.tile_set import PLANES, SIDE
from data_modules.tiling.blocks import Shrink, blocks, shrunk
from data_modules.tiling.grid import grid_of
from data_modules.tiling.survey import ToGrey

Tiles = NDArray[np.uint8]
Positions = NDArray[np.int32]
BATCH = 1024
_SLAB_PX = 2**26
"""Of a copied slab of sections: a section across the order of storage touches every page of the file."""
AXES = {plane: axis for axis, plane in enumerate(PLANES)}
"""The axis of ``(Z, Y, X)`` that a plane lacks."""


@dataclass(frozen=True)
class Plan:
    """What becomes of a source.

    Attributes:
        planes: Of :data:`~data_modules.tile_set.PLANES`.
        shrink: What happens before cutting.
        shape: ``(Z, Y, X)`` after that.
    """

    planes: tuple[str, ...]
    shrink: Shrink
    shape: tuple[int, int, int]

    def plane_shape(self, plane: str) -> tuple[int, int]:
        """Rows and columns of a plane in px."""
        y, x = (side for axis, side in enumerate(self.shape) if axis != AXES[plane])
        return y, x

    def count(self) -> tuple[int, int]:
        """Number of tiles, and of remainders that are dropped."""
        grids = [(self.shape[AXES[plane]], grid_of(*self.plane_shape(plane))) for plane in self.planes]
        return sum(n * len(grid.kept) for n, grid in grids), sum(n * len(grid.dropped) for n, grid in grids)


def cut(volume: Volume, plan: Plan, grey: ToGrey, what: str, scratch: Path) -> Iterator[tuple[Tiles, Positions]]:
    """Tiles of all planes.

    Sections along Z alone are cut as they are read; for three planes the source is brought to 8 bit in a temporary
    file of at most 5 GB first.

    Args:
        volume: The source.
        plan: What becomes of it.
        grey: How its values become 8 bit.
        what: The file, for messages.
        scratch: Folder for the temporary file, which vanishes however the process ends.

    Yields:
        ``uint8 (n, 224, 224)`` and ``int32 (n, 6)`` positions, at most 1,024 at once.
    """
    if plan.planes == ("xy",):
        for first, band in _grey_blocks(volume, plan, grey, what):
            yield from _cut_sections(band, "xy", first)
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as file:
        whole = np.memmap(file, np.uint8, "w+", shape=plan.shape)
        for (z, y, _), band in _grey_blocks(volume, plan, grey, what):
            whole[z : z + band.shape[0], y : y + band.shape[1]] = band
        for plane in plan.planes:
            sections = np.moveaxis(whole, AXES[plane], 0)
            step = max(1, _SLAB_PX // (sections.shape[1] * sections.shape[2]))
            for start in range(0, len(sections), step):
                yield from _cut_sections(np.ascontiguousarray(sections[start : start + step]), plane, (start, 0, 0))


def _grey_blocks(volume: Volume, plan: Plan, grey: ToGrey, what: str) -> Iterator[tuple[tuple[int, int, int], Tiles]]:
    for region in blocks(volume.header, plan.shrink):
        z, y, x = shrunk(region, plan.shrink)
        if z.stop > z.start and y.stop > y.start:
            yield (z.start, y.start, x.start), grey.apply(plan.shrink.apply(volume.read(region)), what)


def _cut_sections(sections: Tiles, plane: str, first: tuple[int, int, int]) -> Iterator[tuple[Tiles, Positions]]:
    grid = grid_of(*sections.shape[1:]).kept
    places = [(section, *piece) for section in range(len(sections)) for piece in grid.tolist()]
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        tiles = np.zeros((len(batch), SIDE, SIDE), np.uint8)
        for tile, (section, y, x, height, width) in zip(tiles, batch, strict=True):
            tile[:height, :width] = sections[section, y : y + height, x : x + width]
        positions = np.asarray([(AXES[plane], *place) for place in batch], np.int32)
        positions[:, 1:4] += np.asarray(first, np.int32)
        yield tiles, positions
