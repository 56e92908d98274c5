"""Blending a stream of tiles into rows of whole mosaics; memory is one row of tiles, whatever the height."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_modules.errors import UserError
from data_modules.grid import Grid, RowSpan, Shape, Sweep
from lightning_emseg.inference.blending import Blend, normalised_windows


@dataclass
class StitchedRows:
    """Finished rows of one mosaic; not frozen, because Lightning rebuilds what a predict step returns.

    Attributes:
        mosaic: Position of the mosaic in its list.
        start: First row.
        probability: ``uint8 (rows, …)`` over the mosaic's full width, on the CPU; 255 is certain foreground.
        last: Whether these are the last rows of the span that this process produces.
    """

    mosaic: int
    start: int
    probability: Tensor
    last: bool


class RowStitcher:
    """Blends the tiles of one span of rows, which must come in the grid's order.

    Args:
        grid: Tiles of the mosaic.
        span: Rows to be produced.
        blend: Weights.
        device: Where tiles are blended.
    """

    def __init__(self, grid: Grid, span: RowSpan, blend: Blend, device: torch.device) -> None:
        self._grid, self._span = grid, span
        self._weights = [
            {start: torch.from_numpy(weights.astype(np.float32)).to(device) for start, weights in axis.items()}
            for axis in normalised_windows(grid, blend)
        ]
        self._band = torch.zeros((grid.tile[0], *grid.shape[1:]), device=device)
        self._top: int | None = None

    def add(self, origins: Sequence[Shape], probabilities: Tensor) -> Iterator[StitchedRows]:
        """Blend tiles in; rows above them that no later tile touches are finished and come out.

        Args:
            origins: First pixels of the tiles.
            probabilities: ``(n, *tile)``, 0–1.
        """
        for origin, tile in zip(origins, probabilities, strict=True):
            if self._top is None:
                self._top = origin[0]
            if origin[0] > self._top:
                yield from self._emit(origin[0], last=False)
            self._blend(origin, tile)

    def finish(self) -> Iterator[StitchedRows]:
        """Give out the remaining rows of the span."""
        yield from self._emit(self._span.stop, last=True)

    def _blend(self, origin: Shape, tile: Tensor) -> None:
        weighted = tile.float()
        for axis, start in enumerate(origin):
            shape = [-1 if other == axis else 1 for other in range(len(origin))]
            weighted = weighted * self._weights[axis][start].reshape(shape)
        # A mosaic smaller than its tile: what was padded is cut off here.
        inside = [slice(0, min(side, at + extent) - at) for side, at, extent in self._axes(origin)]
        target = [
            slice(0, inside[0].stop),
            *(slice(at, at + part.stop) for at, part in zip(origin[1:], inside[1:], strict=True)),
        ]
        self._band[tuple(target)] += weighted[tuple(inside)]

    def _axes(self, origin: Shape) -> Iterator[tuple[int, int, int]]:
        return zip(self._grid.shape, origin, self._grid.tile, strict=True)

    def _emit(self, stop: int, last: bool) -> Iterator[StitchedRows]:
        assert self._top is not None
        rows = self._band[: stop - self._top]
        first = max(self._top, self._span.start)
        wanted = rows[first - self._top : max(first, min(stop, self._span.stop)) - self._top]
        if len(wanted):
            if not torch.isfinite(wanted).all():
                raise UserError(
                    f"the network's output is not finite in rows {first}–{first + len(wanted)} of mosaic "
                    f"{self._span.mosaic}: check the checkpoint and, in 16-bit precision, try --trainer.precision 32"
                )
            quantised = (wanted * 255).round_().clamp_(0, 255).to(torch.uint8).cpu()
            yield StitchedRows(self._span.mosaic, first, quantised, last)
        kept = self._band[stop - self._top :].clone()
        self._band.zero_()
        self._band[: len(kept)] = kept
        self._top = stop


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
