"""Pure geometry of overlapping tiles: where they lie, which pixels each one owns, how rows of tiles group.

Everything is N-dimensional: ``(Y, X)`` mosaics and ``(Z, Y, X)`` volumes run through the same code.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

Shape = tuple[int, ...]


def stride_of(tile: int, overlap: float) -> int:
    """Distance in px between neighbouring tiles of length ``tile`` that share the fraction ``overlap``.

    Raises:
        ValueError: unless ``0 <= overlap < 1`` and ``tile >= 1``.

    >>> stride_of(1024, 0.5)
    512
    """
    if tile < 1:
        raise ValueError(f"tile must be at least 1 px, got {tile}")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}")
    return max(1, math.ceil(tile * (1 - overlap) - 1e-9))


def origins(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """First pixels of the tiles that cover ``length`` px, the last one snapped to the border.

    A length below one tile gives the single origin 0: the tile then reaches past the end and has to be padded.

    >>> origins(9958, 1024, 1024)[-2:]
    (8192, 8934)
    """
    if length <= tile:
        return (0,)
    regular = range(0, length - tile, stride)
    return (*regular, length - tile)


def owned_spans(starts: Sequence[int], length: int, tile: int) -> tuple[tuple[int, int], ...]:
    """Half-open pixel span that each tile owns along one axis: a partition of ``[0, length)``.

    Neighbours split their overlap in the middle, so that each pixel belongs to the tile that sees most around it.

    >>> owned_spans((0, 512, 976), 2000, 1024)
    ((0, 768), (768, 1256), (1256, 2000))
    """
    cuts = [(previous + tile + following) // 2 for previous, following in itertools.pairwise(starts)]
    return tuple(itertools.pairwise((0, *cuts, length)))


@dataclass(frozen=True)
class Grid:
    """Overlapping tiles over an array.

    Attributes:
        shape: Size of the array in px, ``(Y, X)`` or ``(Z, Y, X)``.
        tile: Size of a tile in px, the same number of axes.
        overlap: Fraction that neighbouring tiles share along every axis, ``0 <= overlap < 1``.
    """

    shape: Shape
    tile: Shape
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.tile):
            raise ValueError(f"a tile of {len(self.tile)} axes cannot cover an array of {len(self.shape)} axes")

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """Tile origins along each axis."""
        return tuple(
            origins(length, tile, stride_of(tile, self.overlap))
            for length, tile in zip(self.shape, self.tile, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.starts)

    def __iter__(self) -> Iterator[Shape]:
        """Tile origins in C order."""
        return itertools.product(*self.starts)

    def rows(self) -> Iterator[tuple[int, list[Shape]]]:
        """Tiles grouped by their origin along the first axis, in order: ``(first, origins)``."""
        first, *rest = self.starts
        for start in first:
            yield start, [(start, *other) for other in itertools.product(*rest)]

    def owned(self, origin: Shape) -> tuple[slice, ...]:
        """Part of the array that the tile at ``origin`` owns; the owned parts of all tiles partition the array."""
        spans = (
            owned_spans(starts, length, tile)[starts.index(start)]
            for starts, length, tile, start in zip(self.starts, self.shape, self.tile, origin, strict=True)
        )
        return tuple(slice(*span) for span in spans)


@dataclass(frozen=True)
class RowSpan:
    """Output rows of one mosaic that one process produces.

    Attributes:
        mosaic: Position of the mosaic in its list.
        start: First row (index along the first axis).
        stop: Row to end before.
    """

    mosaic: int
    start: int
    stop: int


def share_rows(shapes: Sequence[Shape], align: Sequence[int], rank: int, world: int) -> list[RowSpan]:
    """Rows of every mosaic that ``rank`` of ``world`` processes produces: a partition over the ranks.

    Spans begin and end at multiples of ``align``, so that no two processes touch the same shard, and
    a rank's rows follow each other, so that few tiles have to be computed twice.

    Args:
        shapes: Of the mosaics, in px.
        align: Rows of a shard, one value a mosaic.
        rank: Of this process.
        world: Number of processes.

    >>> share_rows([(5000, 100)], [2048], 1, 2)
    [RowSpan(mosaic=0, start=2048, stop=5000)]
    """
    units = [
        (RowSpan(mosaic, start, min(start + step, shape[0])), math.prod(shape[1:]))
        for mosaic, (shape, step) in enumerate(zip(shapes, align, strict=True))
        for start in range(0, shape[0], step)
    ]
    total = sum((span.stop - span.start) * width for span, width in units)
    mine: list[RowSpan] = []
    done = 0
    for span, width in units:
        work = (span.stop - span.start) * width
        if (2 * done + work) * world // (2 * total) == rank:
            if mine and mine[-1].mosaic == span.mosaic:
                mine[-1] = RowSpan(span.mosaic, mine[-1].start, span.stop)
            else:
                mine.append(span)
        done += work
    return mine


def rows_left(spans: Sequence[RowSpan], done: Sequence[Sequence[tuple[int, int]]]) -> list[RowSpan]:
    """What remains of ``spans`` when some rows need no work any more.

    Args:
        spans: In order, as :func:`share_rows` gives them.
        done: For each mosaic half-open spans of rows, in order and without overlap.

    >>> rows_left([RowSpan(0, 0, 5000)], [[(2048, 4096)]])
    [RowSpan(mosaic=0, start=0, stop=2048), RowSpan(mosaic=0, start=4096, stop=5000)]
    """
    left = []
    for span in spans:
        start = span.start
        for first, last in (*done[span.mosaic], (span.stop, span.stop)):
            stop = min(first, span.stop)
            if start < stop:
                left.append(RowSpan(span.mosaic, start, stop))
            start = max(start, last)
    return left


@dataclass(frozen=True)
class TileRun:
    """Neighbouring tiles of one row that are read and predicted together.

    Attributes:
        mosaic: Position of the mosaic in its list.
        origins: First pixels of the tiles; they share all but the last coordinate.
    """

    mosaic: int
    origins: tuple[Shape, ...]


@dataclass(frozen=True)
class Sweep:
    """Everything that predicting whole mosaics needs to know, as plain data.

    Attributes:
        grids: One grid a mosaic.
        spans: Rows that this process produces, in order.
        batch_size: Largest number of tiles in a run.
    """

    grids: tuple[Grid, ...]
    spans: tuple[RowSpan, ...]
    batch_size: int

    def runs(self, span: RowSpan) -> Iterator[TileRun]:
        """Tiles that contribute to a span, row by row from top to bottom.

        A batch never holds tiles of two rows, so that its make-up does not depend on where a span begins:
        ranks and resumed runs compute the same batches as one uninterrupted process.
        """
        grid = self.grids[span.mosaic]
        for start, tiles in grid.rows():
            if start < span.stop and start + grid.tile[0] > span.start:
                for line in (list(group) for _, group in itertools.groupby(tiles, key=lambda origin: origin[:-1])):
                    for first in range(0, len(line), self.batch_size):
                        yield TileRun(span.mosaic, tuple(line[first : first + self.batch_size]))
