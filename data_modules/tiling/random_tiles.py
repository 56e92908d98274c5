"""Tiles from random places of a source that is too large, or too far away, to be read as a whole."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from data_modules.images.image import Pixels, Region, Volume
from data_modules.tile_set import SIDE
from data_modules.tiling.cutting import AXES, Plan, Positions
from data_modules.tiling.grid import SMALLEST

BATCH = 256
_AT_ONCE = 16
"""Reads on their way from a server; each waits for it most of the time."""


def random_places(plan: Plan, number: int, seed: int) -> Positions:
    """Different places, each of a random plane, section and origin; all of them where there are fewer.

    Args:
        plan: Planes and shape of the source.
        number: Of places.
        seed: Of the choice.

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


def _ranges(plan: Plan, plane: str) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Numbers of sections, first rows and first columns, and the size of tiles."""
    y, x = plan.plane_shape(plane)
    size = min(y, SIDE), min(x, SIDE)
    return (plan.shape[AXES[plane]], y - size[0] + 1, x - size[1] + 1), size


def read_places(volume: Volume, places: Positions) -> Iterator[tuple[NDArray[np.int32], Sequence[Pixels]]]:
    """Batches of at most 256 positions and their pixels ``(height, width)`` of the source's type."""
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        if not volume.header.scattered:
            # In the order of the sections, which such a format reads one after the other.
            order = np.argsort(batch[:, 1], kind="stable")
            pixels = {int(index): _read(volume, batch[index]) for index in order}
            yield batch, [pixels[index] for index in range(len(batch))]
            continue
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield batch, list(pool.map(lambda place: _read(volume, place), batch))


def _read(volume: Volume, place: NDArray[np.int32]) -> Pixels:
    plane, section, y, x, height, width = map(int, place)
    inside = [slice(y, y + height), slice(x, x + width)]
    inside.insert(plane, slice(section, section + 1))
    region: Region = (inside[0], inside[1], inside[2])
    return volume.read(region).squeeze(axis=plane)
