"""Exact numbers of foreground pixels of any patch, without reading it: packed bits, and sums over blocks of them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from data_modules.batch import IGNORE
from data_modules.grid import Shape
from data_modules.store import MosaicView

SIDE = 32
"""Of a block in px along Y and X, a multiple of 8; along Z a block is one section, as patches have few of them."""
READ_PX = 2**26
"""Largest number of pixels that are read at once, unless a row has more."""

_Box = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ForegroundIndex:
    """Where a mosaic has foreground, in 1/8 byte a pixel and another 1/128 for the sums.

    Attributes:
        shape: Of the mosaic in px.
        bits: One a pixel, 8 to a byte along X, the first the highest; ``uint8 ([Z,] Y, X / 8)``.
        sums: Cumulative numbers of foreground pixels over blocks of 32 px (one section along Z), with a leading zero
            along every axis; ``int64``.
    """

    shape: Shape
    bits: NDArray[np.uint8]
    sums: NDArray[np.int64]

    @classmethod
    def of(cls, mosaic: MosaicView, most_px: int = READ_PX) -> "ForegroundIndex":
        """Read the masks of a mosaic once, some rows at a time.

        Foreground is everything but background and ignored pixels: any class of several.

        Args:
            mosaic: Mosaic with a label.
            most_px: Largest number of pixels that are read at once; a single row is never cut.
        """
        *leading, width = mosaic.shape
        bits = np.empty((*leading, -(-width // 8)), np.uint8)
        for start, mask in masks_of(mosaic, most_px):
            bits[start : start + len(mask)] = np.packbits((mask != 0) & (mask != IGNORE), axis=-1)
        return cls(mosaic.shape, bits, _block_sums(bits))

    def count(self, origin: Shape, size: Shape) -> int:
        """Number of foreground pixels of a patch; what lies outside the mosaic has none.

        Args:
            origin: First pixel of the patch, negative where it begins outside.
            size: Of the patch in px.
        """
        box = [
            (min(max(first, 0), side), min(max(first + extent, 0), side))
            for first, extent, side in zip(origin, size, self.shape, strict=True)
        ]
        # Whole blocks inside of the patch; a mosaic's end ends a block, too.
        inner = [
            (-(-start // side) * side, stop if stop == end else stop // side * side)
            for (start, stop), side, end in zip(box, self._sides, self.shape, strict=True)
        ]
        if any(start >= stop for start, stop in inner):
            return self._count_bits(tuple(box))
        # The rest of the patch, cut into what lies before and behind the blocks along one axis after the other.
        total = self._count_blocks(tuple(inner))
        for axis, ((start, stop), (first, last)) in enumerate(zip(box, inner, strict=True)):
            for rest in ((start, first), (last, stop)):
                if rest[0] < rest[1]:
                    total += self._count_bits((*inner[:axis], rest, *box[axis + 1 :]))
        return total

    @cached_property
    def _sides(self) -> Shape:
        return (1, SIDE, SIDE)[-len(self.shape) :]

    def _count_blocks(self, box: _Box) -> int:
        corners = [(start // side, -(-stop // side)) for (start, stop), side in zip(box, self._sides, strict=True)]
        total = 0
        for ends in itertools.product((0, 1), repeat=len(corners)):
            sign = (-1) ** (len(ends) - sum(ends))
            total += sign * int(self.sums[tuple(pair[end] for pair, end in zip(corners, ends, strict=True))])
        return total

    def _count_bits(self, box: _Box) -> int:
        *leading, (start, stop) = box
        if start >= stop:
            return 0
        first, last = start // 8, -(-stop // 8)
        kept = np.full(last - first, 0xFF, np.uint8)
        kept[0] &= 0xFF >> start % 8
        kept[-1] &= 0xFF << -stop % 8 & 0xFF
        bits = self.bits[(*(slice(*ends) for ends in leading), slice(first, last))]
        return int(np.bitwise_count(bits & kept).sum())


def masks_of(mosaic: MosaicView, most_px: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """First row and mask of parts of a mosaic that follow each other along its first axis.

    Args:
        mosaic: With a label.
        most_px: Largest number of pixels of a part; a single row is never cut.
    """
    # A power of two, as chunks are high: few are decoded twice.
    step = 1 << max(0, (most_px // prod(mosaic.shape[1:])).bit_length() - 1)
    for start in range(0, mosaic.shape[0], step):
        rows = min(step, mosaic.shape[0] - start)
        yield start, mosaic.read_mask((start, *(0,) * (len(mosaic.shape) - 1)), (rows, *mosaic.shape[1:]))


def _block_sums(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Cumulative numbers over blocks, with a leading zero along every axis."""
    across, down = (np.arange(0, side, step) for side, step in ((bits.shape[-1], SIDE // 8), (bits.shape[-2], SIDE)))
    rows = np.add.reduceat(np.bitwise_count(bits), across, axis=-1, dtype=np.uint16)
    sums = np.add.reduceat(rows, down, axis=-2, dtype=np.int64)
    for axis in range(sums.ndim):
        np.cumsum(sums, axis=axis, out=sums)
    return np.pad(sums, [(1, 0)] * sums.ndim)
