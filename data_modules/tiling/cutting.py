"""Tiles of a source: planes and resolution, blocks that fit into memory, all tiles in order, or random ones."""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_modules.geometry import is_isotropic
from data_modules.images.grey import ToGrey
from data_modules.images.image import Image, Pixels, Region, fit_axes
from data_modules.tile_set import PLANES, SIDE

BLOCK_PX = 2**24
"""Largest piece, unless a row of tiles is larger."""
LIMIT_PX = 5_000_000_000
"""Largest source: 5 GB as 8 bit, which is what it becomes (Conrad and Narayan 2021 have 5 GB)."""


@dataclass(frozen=True)
class Reduction:
    """Means over boxes of whole pixels; a rest that fills no box at the far end of an axis is left out.

    Attributes:
        z: Sections to a section.
        lateral: Rows to a row and columns to a column.
    """

    z: int = 1
    lateral: int = 1

    def shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape of a volume afterwards."""
        return shape[0] // self.z, shape[1] // self.lateral, shape[2] // self.lateral

    def pixel_size(self, size: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """Pixel size in nm afterwards, ``(Z, Y, X)`` or ``(Y, X)``."""
        if size is None:
            return None
        return (*(side * self.z for side in size[:-2]), *(side * self.lateral for side in size[-2:]))

    def region(self, region: Region) -> Region:
        """Region that a block fills afterwards; what fills no box at the far end is left out."""
        factors = (self.z, self.lateral, self.lateral)
        z, y, x = (slice(part.start // by, part.stop // by) for part, by in zip(region, factors, strict=True))
        return z, y, x

    def apply(self, block: Pixels) -> Pixels:
        """Means of ``(z, y, x)`` as ``float64``, or the block itself where nothing is to be done."""
        if self.z == self.lateral == 1:
            return block
        z, y, x = self.shape((block.shape[0], block.shape[1], block.shape[2]))
        inside = block[: z * self.z, : y * self.lateral, : x * self.lateral]
        boxes = inside.reshape(z, self.z, y, self.lateral, x, self.lateral)
        return np.asarray(boxes.mean(axis=(1, 3, 5), dtype=np.float64))


def choose_reduction(shape: tuple[int, int, int], isotropic: bool, limit_px: int = LIMIT_PX) -> Reduction:
    """Choose the smallest whole factor that brings a source below the limit; along Z only where it is isotropic."""
    factor = 1
    while True:
        reduction = Reduction(min(factor, shape[0]) if isotropic else 1, factor)
        if np.prod(reduction.shape(shape), dtype=np.int64) <= limit_px:
            return reduction
        factor += 1


def blocks(volume: Image, reduction: Reduction, block_px: int | None = None) -> Iterator[Region]:
    """Regions that cover a volume once, section by section and from top to bottom; columns are never divided.

    Sections are multiples of the factor along Z, rows of the lateral factor times 224: no tile lies in two regions.

    Args:
        volume: Image to cover.
        reduction: Factors by which blocks are made smaller afterwards.
        block_px: Largest number of pixels in a region, where rows allow it; :data:`BLOCK_PX` by default.
    """
    block_px = BLOCK_PX if block_px is None else block_px
    sections, rows, columns = volume.shape
    step = SIDE * reduction.lateral
    together = -(-volume.depth // reduction.z) * reduction.z
    fitting = block_px // (min(step, rows) * columns) // reduction.z * reduction.z
    depth = max(reduction.z, min(together, fitting))
    if whole := block_px // (rows * columns) // depth * depth:
        depth, height = whole, rows
    else:
        height = max(1, block_px // (depth * columns) // step) * step
    for z in range(0, sections, depth):
        for y in range(0, rows, height):
            yield slice(z, min(z + depth, sections)), slice(y, min(y + height, rows)), slice(0, columns)


SMALLEST = 112
"""Side in px below which a remainder is dropped (Conrad and Narayan 2021)."""


def cut_plane(height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut a plane into tiles of 224 × 224 px and remainders, which together cover it exactly once.

    Returns:
        Tiles ``int32 (n, 4)``: first row and column, height and width in px, row by row; and likewise the remainders
        with a side below 112 px, which are dropped.
    """
    pieces = np.asarray(
        [
            (y, x, min(SIDE, height - y), min(SIDE, width - x))
            for y in range(0, height, SIDE)
            for x in range(0, width, SIDE)
        ],
        np.int32,
    ).reshape(-1, 4)
    large = (pieces[:, 2:] >= SMALLEST).all(axis=1)
    return pieces[large], pieces[~large]


Tiles = NDArray[np.uint8]
Positions = NDArray[np.int32]
BATCH = 1024
_SLAB_PX = 2**26
"""Pixels of a copied slab of sections: a section across the order of storage touches every page of the file."""
AXES = {plane: axis for axis, plane in enumerate(PLANES)}
"""The axis of ``(Z, Y, X)`` that a plane lacks."""


@dataclass(frozen=True)
class TilePlan:
    """Planes and resolution at which a source is cut.

    Attributes:
        planes: Some of :data:`~data_modules.tile_set.PLANES`.
        reduction: Factors by which the source is made smaller before cutting.
        shape: ``(Z, Y, X)`` after that.
        pixel_size_nm: Pixel size of the tiles.
        reason: Reason for these planes.
    """

    planes: tuple[str, ...]
    reduction: Reduction
    shape: tuple[int, int, int]
    pixel_size_nm: tuple[float, ...] | None = None
    reason: str = ""

    def plane_shape(self, plane: str) -> tuple[int, int]:
        """Rows and columns of a plane in px."""
        y, x = (side for axis, side in enumerate(self.shape) if axis != AXES[plane])
        return y, x

    def count(self) -> tuple[int, int]:
        """Count tiles, and remainders that are dropped."""
        cuts = [(self.shape[AXES[plane]], *cut_plane(*self.plane_shape(plane))) for plane in self.planes]
        return sum(n * len(kept) for n, kept, _ in cuts), sum(n * len(dropped) for n, _, dropped in cuts)


def cut(volume: Image, plan: TilePlan, grey: ToGrey, what: str, scratch: Path) -> Iterator[tuple[Tiles, Positions]]:
    """Cut the tiles of all planes.

    Sections along Z alone are cut as they are read; for three planes the source is brought to 8 bit in a temporary
    file of at most 5 GB first.

    Args:
        volume: The source.
        plan: Planes and resolution.
        grey: Map of its values to 8 bit.
        what: Name of the file, for messages.
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


def _grey_blocks(
    volume: Image, plan: TilePlan, grey: ToGrey, what: str
) -> Iterator[tuple[tuple[int, int, int], Tiles]]:
    for region in blocks(volume, plan.reduction):
        z, y, x = plan.reduction.region(region)
        if z.stop > z.start and y.stop > y.start:
            yield (z.start, y.start, x.start), grey.apply(plan.reduction.apply(volume.read(region)), what)


def _cut_sections(sections: Tiles, plane: str, first: tuple[int, int, int]) -> Iterator[tuple[Tiles, Positions]]:
    grid, _ = cut_plane(*sections.shape[1:])
    places = [(section, *piece) for section in range(len(sections)) for piece in grid.tolist()]
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        tiles = np.zeros((len(batch), SIDE, SIDE), np.uint8)
        for tile, (section, y, x, height, width) in zip(tiles, batch, strict=True):
            tile[:height, :width] = sections[section, y : y + height, x : x + width]
        positions = np.asarray([(AXES[plane], *place) for place in batch], np.int32)
        positions[:, 1:4] += np.asarray(first, np.int32)
        yield tiles, positions


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        grey: Rule to 8 bit, see :meth:`~data_modules.images.grey.Survey.to_grey`.
        pixel_size_nm: Pixel size of every file that the table of sources says nothing about; ``None`` to take the
            file's own.
        random: Number of random tiles a source; ``None`` for all tiles.
        seed: Random seed for choosing random tiles.
        limit_px: Largest source that is not downsampled.
    """

    grey: str = "percentile"
    pixel_size_nm: tuple[float, ...] | None = None
    random: int | None = None
    seed: int = 0
    limit_px: int = LIMIT_PX


def plan_source(volume: Image, stated: tuple[float, ...] | None, settings: Settings) -> TilePlan:
    """Decide by the pixel size, as Conrad and Narayan (2021) do; random tiles are never downsampled.

    Args:
        volume: Image of the source.
        stated: Its pixel size in nm as the table of sources has it, before that of the settings and its own.
        settings: Settings of the run.
    """
    size = stated or settings.pixel_size_nm or volume.pixel_size_nm
    if size is not None:
        size = fit_axes(size, 1 if volume.frames else volume.shape[0])
    isotropic = is_isotropic(size)
    if volume.frames:
        reason = "video: xy only"
    elif volume.shape[0] == 1:
        reason = "one section"
    elif size is None or len(size) == 2:
        reason = "pixel size along Z unknown: xy only"
    else:
        reason = "isotropic: three planes" if isotropic else "anisotropic: xy only"
    reduction = Reduction()
    if settings.random is None:
        reduction = choose_reduction(volume.shape, isotropic, settings.limit_px)
    planes = PLANES if isotropic else ("xy",)
    return TilePlan(planes, reduction, reduction.shape(volume.shape), reduction.pixel_size(size), reason)


RANDOM_BATCH = 256
_AT_ONCE = 16
"""Reads on their way from a server; each waits for it most of the time."""


def random_places(plan: TilePlan, number: int, seed: int) -> Positions:
    """Draw different places, each of a random plane, section and origin; all of them where there are fewer.

    Args:
        plan: Planes and shape of the source.
        number: Number of places.
        seed: Random seed.

    Returns:
        ``int32 (n, 6)`` positions in the order in which they were drawn. A side shorter than 224 px is taken whole if
        it has 112 px.
    """
    planes = [plane for plane in plan.planes if min(plan.plane_shape(plane)) >= SMALLEST]
    ranges = {plane: _ranges(plan, plane) for plane in planes}
    possible = sum(int(np.prod(counts, dtype=np.int64)) for counts, _ in ranges.values())
    generator = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    if possible <= number:
        everything = [
            (AXES[plane], *place, *size) for plane, (counts, size) in ranges.items() for place in np.ndindex(*counts)
        ]
        return np.asarray(everything, np.int32).reshape(-1, 6)
    while len(found) < number:
        plane = planes[generator.integers(len(planes))]
        counts, size = ranges[plane]
        found[(AXES[plane], *(int(generator.integers(count)) for count in counts), *size)] = None
    return np.asarray(list(found), np.int32)


def _ranges(plan: TilePlan, plane: str) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Numbers of sections, first rows and first columns, and the size of tiles."""
    y, x = plan.plane_shape(plane)
    size = min(y, SIDE), min(x, SIDE)
    return (plan.shape[AXES[plane]], y - size[0] + 1, x - size[1] + 1), size


def read_places(volume: Image, places: Positions) -> Iterator[tuple[NDArray[np.int32], Sequence[Pixels]]]:
    """Batches of at most 256 positions and their pixels ``(height, width)`` of the source's type."""
    for start in range(0, len(places), RANDOM_BATCH):
        batch = places[start : start + RANDOM_BATCH]
        if not volume.scattered:
            # In the order of the sections, which such a format reads one after the other.
            order = np.argsort(batch[:, 1], kind="stable")
            pixels = {int(index): _read_place(volume, batch[index]) for index in order}
            yield batch, [pixels[index] for index in range(len(batch))]
            continue
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield batch, list(pool.map(lambda place: _read_place(volume, place), batch))


def _read_place(volume: Image, place: NDArray[np.int32]) -> Pixels:
    plane, section, y, x, height, width = map(int, place)
    inside = [slice(y, y + height), slice(x, x + width)]
    inside.insert(plane, slice(section, section + 1))
    region: Region = (inside[0], inside[1], inside[2])
    return volume.read(region).squeeze(axis=plane)
