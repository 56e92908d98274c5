"""Blending by its definition: every tile in memory, sums in float64; slow, and independent of the package's code."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from data_modules.geometry import Grid, Shape, Sweep
from lightning_emseg.inference.stitching import Blend, StitchedRows, SweepStitcher

BLENDS: tuple[Blend, ...] = ("constant", "cosine", "gaussian")
CPU = torch.device("cpu")
SINGLE = 2.0**-24
"""Relative error of one rounding in single precision."""


def tile_at(origin: Shape, shape: Shape) -> NDArray[np.float32]:
    """A tile's prediction depends on the tile, as a network's does, so that overlaps disagree."""
    values: NDArray[np.float32] = np.random.default_rng([at + 1 for at in origin]).random(shape, dtype=np.float32)
    return values


def inside(origin: Shape, grid: Grid) -> torch.Tensor:
    """The prediction of a tile, without what reaches past a mosaic that is smaller."""
    return torch.from_numpy(tile_at(origin, grid.tile)[tuple(slice(0, side) for side in grid.shape)])


def weights_of(tile: Shape, blend: Blend) -> NDArray[np.float64]:
    """Not normalised."""
    product = np.ones(())
    for side in tile:
        at = np.arange(side) - (side - 1) / 2
        along: dict[str, NDArray[np.float64]] = {
            "constant": np.ones(side),
            "cosine": np.cos(math.pi * at / side) ** 2,
            "gaussian": np.exp(-(at**2) / (2 * (side / 8) ** 2)),
        }
        product = np.multiply.outer(product, along[blend])
    return product


def dense(grid: Grid, blend: Blend) -> tuple[NDArray[np.float64], int]:
    """Sum of weighted tiles over sum of weights, and the largest number of tiles that overlap."""
    padded = tuple(max(side, tile) for side, tile in zip(grid.shape, grid.tile, strict=True))
    total, norm, count = np.zeros(padded), np.zeros(padded), np.zeros(padded, int)
    weights = weights_of(grid.tile, blend)
    for origin in grid:
        where = tuple(slice(at, at + tile) for at, tile in zip(origin, grid.tile, strict=True))
        total[where] += weights * tile_at(origin, grid.tile)
        norm[where] += weights
        count[where] += 1
    blended: NDArray[np.float64] = (total / norm)[tuple(slice(0, side) for side in grid.shape)]
    return blended, int(count.max())


def stream(sweep: Sweep, blend: Blend, broken: dict[Shape, float] | None = None) -> Iterator[StitchedRows]:
    """What the stitcher makes of the same tiles.

    Args:
        sweep: Its spans are gone through.
        blend: Weights.
        broken: Values that the pixel before the middle one of some tiles gets.
    """
    stitcher = SweepStitcher(sweep, blend, CPU)
    for span in sweep.spans:
        tile = sweep.grids[span.mosaic].tile
        for origins in sweep.runs(span):
            tiles = np.stack([tile_at(origin, tile) for origin in origins])
            for index, origin in enumerate(origins):
                if broken and origin in broken:
                    tiles[(index, *(side // 2 - 1 for side in tile))] = broken[origin]
            yield from stitcher.add(origins, torch.from_numpy(tiles))
