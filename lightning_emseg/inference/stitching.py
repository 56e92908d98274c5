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
        classes: ``uint8``, same shape: positions of the most probable classes, where tiles have a map for each; the
            probability is then that of any class but the first. ``None`` of a single foreground.
    """

    mosaic: int
    start: int
    probability: Tensor
    last: bool
    invalid: Tensor | None = None
    failed: tuple[Shape, ...] = ()
    classes: Tensor | None = None


class RowStitcher:
    """Blends the tiles of one span of rows, which must come in the grid's order.

    The device is waited for only where rows come out.

    Args:
        grid: Tiles of the mosaic.
        span: Rows to be produced.
        blend: Weights.
        device: Where tiles are blended.
        classes: Maps of a tile, of which the first is that of the background; ``None`` for one map, of the foreground.
    """

    def __init__(
        self, grid: Grid, span: RowSpan, blend: Blend, device: torch.device, classes: int | None = None
    ) -> None:
        self._grid, self._span, self._device = grid, span, device
        self._classes = classes
        self._bands = [TileBand(grid, blend, device, scale=255, offset=0.5) for _ in range(classes or 1)]
        self._top: int | None = None
        self._unchecked: list[tuple[Shape, Tensor]] = []
        self._failed: list[Shape] = []
        self._reported = 0

    def add(self, origins: Sequence[Shape], probabilities: Tensor) -> Iterator[StitchedRows]:
        """Blend tiles in; rows above them that no later tile touches are finished and come out.

        Args:
            origins: First pixels of the tiles.
            probabilities: ``(n, *tile)``, 0–1, or ``(n, classes, *tile)``.
        """
        maps = probabilities if self._classes else probabilities[:, None]
        # A mosaic smaller than its tile: what was padded is cut off.
        inside = maps.float()[(slice(None), slice(None), *(slice(0, side) for side in self._grid.shape))]
        for origin, tile in zip(origins, inside, strict=True):
            if self._top is None:
                self._top = origin[0]
            if origin[0] > self._top:
                yield from self._emit(origin[0], last=False)
            for band, part in zip(self._bands, tile, strict=True):
                band.add(origin, part)
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
            probability, classes = self._quantised(start, end)
            invalid = self._invalid(start, end)
            if invalid is not None:
                probability[invalid] = 0
            failed = tuple(self._failed[self._reported :])
            self._reported = len(self._failed)
            yield StitchedRows(self._span.mosaic, start, probability, last, invalid, failed, classes)
        self._drop(max(start, end), stop)
        self._top = stop

    def _drop(self, start: int, stop: int) -> None:
        for band in self._bands:
            for _ in band.take(start, stop):
                pass

    def _quantised(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Probability and, of several classes, the most probable one; ``uint8`` on the CPU."""
        shape = (stop - start, *self._grid.shape[1:])
        levels = torch.empty(shape, dtype=torch.uint8, device=self._device)
        classes = torch.empty_like(levels) if self._classes else None
        at = 0
        for parts in zip(*(band.take(start, stop) for band in self._bands), strict=True):
            into = slice(at, at + len(parts[0]))
            if classes is None:
                levels[into] = parts[0]
            else:
                # Of 255 · p + ½, cut off to whole levels: the background's becomes 255 · (1 − p) + ½.
                levels[into] = (256 - parts[0]).clamp(0, 255)
                classes[into] = torch.stack(parts).argmax(dim=0)
            at = into.stop
        return levels.cpu(), None if classes is None else classes.cpu()

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
        classes: Maps of a tile, of which the first is that of the background; ``None`` for one map, of the foreground.
    """

    def __init__(self, sweep: Sweep, blend: Blend, device: torch.device, classes: int | None = None) -> None:
        self._sweep, self._blend, self._device, self._classes = sweep, blend, device, classes
        self._spans = iter(sweep.spans)
        self._stitcher: RowStitcher | None = None
        self._missing = 0

    def add(self, origins: Sequence[Shape], probabilities: Tensor) -> Iterator[StitchedRows]:
        """Blend one batch in.

        Args:
            origins: First pixels of the tiles.
            probabilities: ``(n, *tile)``, 0–1, or ``(n, classes, *tile)``.
        """
        if self._stitcher is None:
            span = next(self._spans)
            self._missing = sum(len(run.origins) for run in self._sweep.runs(span))
            grid = self._sweep.grids[span.mosaic]
            self._stitcher = RowStitcher(grid, span, self._blend, self._device, self._classes)
        yield from self._stitcher.add(origins, probabilities)
        self._missing -= len(origins)
        if not self._missing:
            yield from self._stitcher.finish()
            self._stitcher = None
