"""Stitching of a stream of tiles into rows of whole mosaics; memory is one row of tiles, whatever the height."""

import functools
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from data_modules.geometry import Grid, RowSpan, Shape, Sweep

_KEPT_WINDOWS = 8
"""Windows in memory; a row of 2D tiles needs 4 at 50 % overlap, and 8 at 75 %."""

Blend = Literal["constant", "cosine", "gaussian"]
Window = NDArray[np.float64]


def window(length: int, blend: Blend) -> Window:
    """Compute weights along one axis of a tile, all positive.

    Args:
        length: Length of the tile in px.
        blend: ``constant`` is the plain mean of U-RISC's published code; ``cosine`` is a Hann window;
            ``gaussian`` has σ = length / 8, as nnU-Net and MONAI use.

    >>> window(4, "constant")
    array([1., 1., 1., 1.])
    """
    offset = (np.arange(length) + 0.5) / length - 0.5
    if blend == "constant":
        return np.ones(length)
    if blend == "cosine":
        return np.cos(np.pi * offset) ** 2
    return np.exp(-0.5 * (offset * 8) ** 2)


def normalised_windows(grid: Grid, blend: Blend) -> list[dict[int, Window]]:
    """Compute each axis's weights of the tile at each origin, such that all weights add up to 1 at every pixel.

    Weights are products over the axes, and so are their sums, because the tiles form a grid. Normalising here
    leaves nothing to divide by when tiles are blended.
    """
    axes = []
    for starts, length, tile in zip(grid.starts, grid.shape, grid.tile, strict=True):
        weights = window(tile, blend)
        total = np.zeros(max(length, tile))
        for start in starts:
            total[start : start + tile] += weights
        axes.append({start: weights / total[start : start + tile] for start in starts})
    return axes


class Windows:
    """Weights of whole tiles, made when first needed: tiles at the same distance from the borders share theirs.

    Args:
        grid: Tiles.
        blend: Weights along an axis.
        device: Device of the tensors.
        scale: Factor of all weights.
    """

    def __init__(self, grid: Grid, blend: Blend, device: torch.device, scale: float = 1.0) -> None:
        self._axes = [
            {start: weights[:length] for start, weights in axis.items()}
            for axis, length in zip(normalised_windows(grid, blend), grid.shape, strict=True)
        ]
        self._kinds: list[dict[int, int]] = []
        for axis in self._axes:
            numbers: dict[bytes, int] = {}
            self._kinds.append({at: numbers.setdefault(weights.tobytes(), at) for at, weights in axis.items()})
        self._device, self._scale = device, scale
        self._made: OrderedDict[Shape, Tensor] = OrderedDict()

    def __getitem__(self, origin: Shape) -> Tensor:
        """``float32``, of the tile at ``origin`` without what lies outside a mosaic that is smaller than a tile."""
        kind = tuple(axis[start] for axis, start in zip(self._kinds, origin, strict=True))
        if kind not in self._made:
            if len(self._made) == _KEPT_WINDOWS:
                self._made.popitem(last=False)
            along = [axis[start] for axis, start in zip(self._axes, kind, strict=True)]
            product = functools.reduce(np.multiply.outer, along) * self._scale
            self._made[kind] = torch.from_numpy(product.astype(np.float32)).to(self._device)
        self._made.move_to_end(kind)
        return self._made[kind]


class TileBand:
    """Weighted mean of overlapping tiles over one row of tiles, whatever the height of the mosaic.

    Row ``r`` of the mosaic lies at ``r`` modulo the height of a tile: nothing moves when rows are finished, and
    what is computed does not depend on where a band begins. Single precision: where ``k`` tiles overlap, a
    probability is off by at most ``(k + 2) · 2⁻²⁴`` (the rounding of a weight, of a product and of ``k`` sums).

    Args:
        grid: Tiles of the mosaic.
        blend: Weights.
        device: Device on which tiles are blended.
        scale: Factor of the mean; 255 gives levels of 8 bit for nothing.
        offset: Summand of the mean; 0.5 makes rounding of truncation, for nothing too.
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
        """Yield consecutive rows ``[start, stop)`` of the mosaic over its full width, in one piece or two.

        They are views, which may be written to; when the next are asked for they are cleared, to make room for the
        rows one tile below. Rows that nobody wants have to be taken too.

        Args:
            start: First row, not above the origin of the tiles that were added last.
            stop: Row behind the last one, at most the height of a tile below that origin.
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
        device: Device on which tiles are blended.
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
        finite = torch.stack([total for _, total in self._unchecked]).isfinite().tolist() if self._unchecked else []
        self._failed += [origin for (origin, _), good in zip(self._unchecked, finite, strict=True) if not good]
        self._unchecked = []
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
        sweep: Plan of whole mosaics, that of the loader's dataset.
        blend: Weights.
        device: Device on which tiles are blended.
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
            self._missing = sum(len(origins) for origins in self._sweep.runs(span))
            grid = self._sweep.grids[span.mosaic]
            self._stitcher = RowStitcher(grid, span, self._blend, self._device, self._classes)
        yield from self._stitcher.add(origins, probabilities)
        self._missing -= len(origins)
        if not self._missing:
            yield from self._stitcher.finish()
            self._stitcher = None


class MosaicMaps:
    """Maps in files that all ranks see, so that none of them holds a mosaic in memory.

    A map holds one number a pixel: the quantised probability of a foreground, or the position of a class.

    Args:
        folder: Folder for the files; removed and made anew by :meth:`create`.
        shapes: Shapes of the mosaics in px.
    """

    def __init__(self, folder: Path, shapes: Sequence[Shape]) -> None:
        self._folder, self._shapes = folder, shapes
        self._open: dict[int, NDArray[np.uint8]] = {}

    def create(self) -> None:
        """Make empty files; one process does, before any other writes."""
        self.remove()
        self._folder.mkdir(parents=True)
        for mosaic, shape in enumerate(self._shapes):
            open_memmap(self._path(mosaic), mode="w+", dtype=np.uint8, shape=tuple(shape))

    def write(self, mosaic: int, start: int, rows: Tensor) -> None:
        """Write finished rows, each of which is written by one process.

        Args:
            mosaic: Position of the mosaic.
            start: First row.
            rows: ``uint8 (rows, …)`` over the mosaic's full width.
        """
        if mosaic not in self._open:
            self._open[mosaic] = open_memmap(self._path(mosaic), mode="r+")
        self._open[mosaic][start : start + len(rows)] = rows.cpu().numpy()

    def flush(self) -> None:
        """Hand what was written to the file system; for all processes, before any of them reads."""
        # Closed, as network file systems show other machines what was closed.
        for values in self._open.values():
            assert isinstance(values, np.memmap)
            values.flush()
        self._open.clear()

    def read(self, mosaic: int) -> NDArray[np.uint8]:
        """Open the map of one mosaic, ``uint8`` as it was written; read from disk where it is looked at."""
        return open_memmap(self._path(mosaic), mode="r")

    def remove(self) -> None:
        """Delete the files."""
        self._open.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, mosaic: int) -> Path:
        return self._folder / f"{mosaic}.npy"
