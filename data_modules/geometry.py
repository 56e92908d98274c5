"""Geometry of overlapping tiles: their origins, the pixels that each one owns, and rows that ranks share.

Everything is N-dimensional: ``(Y, X)`` mosaics and ``(Z, Y, X)`` volumes run through the same code.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """Overlapping tiles over an array.

    Attributes:
        shape: Size of the array in px, ``(Y, X)`` or ``(Z, Y, X)``.
        tile: Size of a tile in px, the same number of axes.
        overlap: Fraction that neighbouring tiles share along every axis, ``0 <= overlap < 1``.

    Raises:
        ValueError: for a tile of other axes than the array, or of less than a pixel, or for another overlap.
    """

    shape: Shape
    tile: Shape
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.tile):
            raise ValueError(f"a tile of {len(self.tile)} axes cannot cover an array of {len(self.shape)} axes")
        if min(self.tile) < 1:
            raise ValueError(f"tile must be at least 1 px, got {self.tile}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be at least 0 and below 1, got {self.overlap}")

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """Tile origins along each axis, the last one snapped to the border.

        An array that is shorter than a tile has the single origin 0: the tile then reaches past the end and has to be
        padded.

        >>> Grid((9958, 700), (1024, 1024)).starts[0][-2:]
        (8192, 8934)
        """
        strides = [max(1, math.ceil(tile * (1 - self.overlap) - 1e-9)) for tile in self.tile]
        return tuple(
            (0,) if length <= tile else (*range(0, length - tile, stride), length - tile)
            for length, tile, stride in zip(self.shape, self.tile, strides, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.starts)

    def __iter__(self) -> Iterator[Shape]:
        """Iterate over tile origins in C order."""
        return itertools.product(*self.starts)

    def owned(self, origin: Shape) -> tuple[slice, ...]:
        """Part of the array that the tile at ``origin`` owns; the owned parts of all tiles partition the array.

        Neighbours split their overlap in the middle, so that each pixel belongs to the tile that sees most around it.

        >>> Grid((2000, 5), (1024, 5), 0.5).owned((512, 0))
        (slice(768, 1256, None), slice(0, 5, None))
        """
        owned = []
        for starts, length, tile, start in zip(self.starts, self.shape, self.tile, origin, strict=True):
            cuts = [0, *((one + tile + next_one) // 2 for one, next_one in itertools.pairwise(starts)), length]
            place = starts.index(start)
            owned.append(slice(cuts[place], cuts[place + 1]))
        return tuple(owned)


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
    """Choose the rows of every mosaic that ``rank`` of ``world`` processes produces: a partition over the ranks.

    Spans begin and end at multiples of ``align``, so that no two processes touch the same shard, and
    a rank's rows follow each other, so that few tiles have to be computed twice.

    Args:
        shapes: Shapes of the mosaics in px.
        align: Rows of a shard, one value a mosaic.
        rank: Rank of this process.
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
    """Compute what remains of ``spans`` when some rows need no work any more.

    Args:
        spans: Spans in order, as :func:`share_rows` gives them.
        done: Half-open spans of rows for each mosaic, in order and without overlap.

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
class Sweep:
    """Plan of a prediction of whole mosaics, as plain data.

    Attributes:
        grids: One grid a mosaic.
        spans: Rows that this process produces, in order.
        batch_size: Largest number of tiles in a batch.
    """

    grids: tuple[Grid, ...]
    spans: tuple[RowSpan, ...]
    batch_size: int

    def runs(self, span: RowSpan) -> Iterator[tuple[Shape, ...]]:
        """Iterate over the tiles that contribute to a span, in groups that are read and predicted together.

        The tiles of a group share all but the last coordinate, whatever span they are asked for: ranks and resumed runs
        compute the same batches as one uninterrupted process.

        Yields:
            Origins of neighbouring tiles, from top to bottom.
        """
        grid = self.grids[span.mosaic]
        *leading, across = grid.starts
        for line in itertools.product(*leading):
            if line[0] < span.stop and line[0] + grid.tile[0] > span.start:
                for first in range(0, len(across), self.batch_size):
                    yield tuple((*line, at) for at in across[first : first + self.batch_size])


def is_isotropic(pixel_size_nm: Sequence[float] | None) -> bool:
    """Whether Z differs by less than 20 % from Y and from X (Conrad and Narayan 2021).

    Args:
        pixel_size_nm: Sizes along Z, Y and X; unknown sizes, and those of Y and X alone, are not isotropic.

    >>> is_isotropic((5, 4.2, 4.2)), is_isotropic((5, 6.25, 6.25)), is_isotropic(None)
    (True, False, False)
    """
    if pixel_size_nm is None or len(pixel_size_nm) < 3:
        return False
    z, *lateral = pixel_size_nm
    # Exactly a fifth is too much, also where it comes as 9.6 and 8 in binary or from 32 bits.
    return all(abs(z - side) < 0.2 * side * (1 - 1e-6) for side in lateral)
