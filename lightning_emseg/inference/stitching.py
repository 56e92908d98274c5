"""Blending a stream of tiles into rows of whole mosaics; memory is one row of tiles, whatever the height."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.grid import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.band import TileBand
from lightning_emseg.inference.blending import Blend


@dataclass
class StitchedRows:
    """Finished rows of one mosaic; not frozen, because Lightning rebuilds what a predict step returns.

    Attributes:
        mosaic: Position of the mosaic in its list.
        start: First row.
        probability: ``uint8 (rows, …)`` over the mosaic's full width, on the CPU; 255 is certain foreground.
        last: Whether these are the last rows of the span that this process produces.
        invalid: ``bool``, same shape: pixels that a tile with NaN or infinity contributes to; their probability
            is 0. ``None`` where there are none.
        failed: Origins of the tiles with NaN or infinity that were found since the rows before.
    """

    mosaic: int
    start: int
    probability: Tensor
    last: bool
    invalid: Tensor | None = None
    failed: tuple[Shape, ...] = ()


class RowStitcher:
    """Blends the tiles of one span of rows, which must come in the grid's order.

    The device is waited for only where rows come out.

    Args:
        grid: Tiles of the mosaic.
        span: Rows to be produced.
        blend: Weights.
        device: Where tiles are blended.
    """

    def __init__(self, grid: Grid, span: RowSpan, blend: Blend, device: torch.device) -> None:
        self._grid, self._span, self._device = grid, span, device
        self._band = TileBand(grid, blend, device, scale=255, offset=0.5)
        self._top: int | None = None
        self._unchecked: list[tuple[Shape, Tensor]] = []
        self._failed: list[Shape] = []
        self._reported = 0

    def add(self, origins: Sequence[Shape], probabilities: Tensor) -> Iterator[StitchedRows]:
        """Blend tiles in; rows above them that no later tile touches are finished and come out.

        Args:
            origins: First pixels of the tiles.
            probabilities: ``(n, *tile)``, 0–1.
        """
        # A mosaic smaller than its tile: what was padded is cut off.
        inside = probabilities.float()[(slice(None), *(slice(0, side) for side in self._grid.shape))]
        for origin, tile in zip(origins, inside, strict=True):
            if self._top is None:
                self._top = origin[0]
            if origin[0] > self._top:
                yield from self._emit(origin[0], last=False)
            self._band.add(origin, tile)
            # One number a tile, finite unless a pixel is not. It is looked at when rows come out: nothing waits here.
            self._unchecked.append((origin, tile.sum()))

    def finish(self) -> Iterator[StitchedRows]:
        """Give out the remaining rows of the span."""
        yield from self._emit(self._span.stop, last=True)

    def _emit(self, stop: int, last: bool) -> Iterator[StitchedRows]:
        assert self._top is not None
        self._check()
        start, end = max(self._top, self._span.start), min(stop, self._span.stop)
        self._drop(self._top, min(start, stop))
        if start < end:
            probability, invalid = self._quantised(start, end), self._invalid(start, end)
            if invalid is not None:
                probability[invalid] = 0
            failed = tuple(self._failed[self._reported :])
            self._reported = len(self._failed)
            yield StitchedRows(self._span.mosaic, start, probability, last, invalid, failed)
        self._drop(max(start, end), stop)
        self._top = stop

    def _drop(self, start: int, stop: int) -> None:
        for _ in self._band.take(start, stop):
            pass

    def _quantised(self, start: int, stop: int) -> Tensor:
        """``uint8`` on the CPU."""
        levels = torch.empty((stop - start, *self._grid.shape[1:]), dtype=torch.uint8, device=self._device)
        at = 0
        for rows in self._band.take(start, stop):
            levels[at : at + len(rows)] = rows
            at += len(rows)
        return levels.cpu()

    def _check(self) -> None:
        finite = torch.stack([total for _, total in self._unchecked]).isfinite().tolist() if self._unchecked else []
        self._failed += [origin for (origin, _), good in zip(self._unchecked, finite, strict=True) if not good]
        self._unchecked = []

    def _invalid(self, start: int, stop: int) -> Tensor | None:
        height, *sides = self._grid.tile
        touching = [origin for origin in self._failed if origin[0] < stop and origin[0] + height > start]
        if not touching:
            return None
        invalid = torch.zeros((stop - start, *self._grid.shape[1:]), dtype=torch.bool)
        for first, *rest in touching:
            across = (slice(at, at + side) for at, side in zip(rest, sides, strict=True))
            invalid[(slice(max(first - start, 0), first + height - start), *across)] = True
        return invalid


class SweepStitcher:
    """Turns the batches of a whole sweep into finished rows, span after span.

    Args:
        sweep: As in the loader's dataset.
        blend: Weights.
        device: Where tiles are blended.
    """

    def __init__(self, sweep: Sweep, blend: Blend, device: torch.device) -> None:
        self._sweep, self._blend, self._device = sweep, blend, device
        self._spans = iter(sweep.spans)
        self._stitcher: RowStitcher | None = None
        self._missing = 0

    def add(self, origins: Sequence[Shape], probabilities: Tensor) -> Iterator[StitchedRows]:
        """Blend one batch in.

        Args:
            origins: First pixels of the tiles.
            probabilities: ``(n, *tile)``, 0–1.
        """
        if self._stitcher is None:
            span = next(self._spans)
            self._missing = sum(len(run.origins) for run in self._sweep.runs(span))
            self._stitcher = RowStitcher(self._sweep.grids[span.mosaic], span, self._blend, self._device)
        yield from self._stitcher.add(origins, probabilities)
        self._missing -= len(origins)
        if not self._missing:
            yield from self._stitcher.finish()
            self._stitcher = None
