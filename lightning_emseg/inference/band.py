"""The rows of a mosaic that later tiles may still change, kept as a ring."""

from collections.abc import Iterator

import torch
from torch import Tensor

from data_modules.grid import Grid, Shape
from lightning_emseg.inference.blending import Blend, Windows


class TileBand:
    """Weighted mean of overlapping tiles over one row of tiles, whatever the height of the mosaic.

    Row ``r`` of the mosaic lies at ``r`` modulo the height of a tile: nothing moves when rows are finished, and
    what is computed does not depend on where a band begins. Single precision: where ``k`` tiles overlap, a
    probability is off by at most ``(k + 2) · 2⁻²⁴`` (the rounding of a weight, of a product and of ``k`` sums).

    Args:
        grid: Tiles of the mosaic.
        blend: Weights.
        device: Where tiles are blended.
        scale: Multiplies the mean; 255 gives levels of 8 bit for nothing.
        offset: Added to the mean; 0.5 makes rounding of truncation, for nothing too.
    """

    def __init__(self, grid: Grid, blend: Blend, device: torch.device, scale: float = 1.0, offset: float = 0.0) -> None:
        self._windows = Windows(grid, blend, device, scale)
        self._height = grid.tile[0]
        self._offset = offset
        self._rows = torch.full((grid.tile[0], *grid.shape[1:]), offset, device=device)

    def add(self, origin: Shape, tile: Tensor) -> None:
        """Blend a tile in, without waiting for the device.

        Args:
            origin: First pixel. Tiles come in the grid's order, which fixes the order of additions.
            tile: ``float32``, without what reaches past the mosaic where that is smaller than a tile.
        """
        window = self._windows[origin]
        across = tuple(slice(at, at + side) for at, side in zip(origin[1:], tile.shape[1:], strict=True))
        for in_tile, in_band in self._stretches(origin[0], origin[0] + len(tile)):
            self._rows[(in_band, *across)].addcmul_(tile[in_tile], window[in_tile])

    def take(self, start: int, stop: int) -> Iterator[Tensor]:
        """Consecutive rows ``[start, stop)`` of the mosaic over its full width, in one piece or two.

        They are views, which may be written to; when the next are asked for they are cleared, to make room for the
        rows one tile below. Rows that nobody wants have to be taken too.

        Args:
            start: Not above the origin of the tiles that were added last.
            stop: At most the height of a tile below that.
        """
        for _, in_band in self._stretches(start, stop):
            rows = self._rows[in_band]
            yield rows
            rows.fill_(self._offset)

    def _stretches(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Where rows lie, counted from ``start`` and in the ring, cut where that ends."""
        at = start
        while at < stop:
            place = at % self._height
            count = min(stop - at, self._height - place)
            yield slice(at - start, at - start + count), slice(place, place + count)
            at += count
