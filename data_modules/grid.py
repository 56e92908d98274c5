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
