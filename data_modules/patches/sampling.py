"""Positions of training patches; picked by ``class_path`` under ``data.sampling``."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.geometry import Grid, Shape
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


Position = tuple[int, Shape]


class PatchSampling(ABC):
    """How positions are chosen; subclasses are picked by ``class_path`` under ``data.sampling``."""

    @abstractmethod
    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """The positions of one epoch, in order.

        Args:
            mosaics: Training mosaics, none smaller than ``size``.
            size: Of a patch, in px.
            count: Number of patches wanted.
            random: Seeded by (seed, epoch).
        """


class RandomPatches(PatchSampling):
    """Uniform over all positions of all mosaics, so that a mosaic counts by its area."""

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`."""
        room = [
            [max(side - extent, 0) + 1 for side, extent in zip(mosaic.shape, size, strict=True)] for mosaic in mosaics
        ]
        weights = np.array([np.prod(axes, dtype=np.float64) for axes in room])
        chosen = random.choice(len(mosaics), size=count, p=weights / weights.sum())
        places = random.random((count, len(size)))
        return [
            (int(mosaic), tuple(int(at * extent) for at, extent in zip(place, room[mosaic], strict=True)))
            for mosaic, place in zip(chosen, places, strict=True)
        ]


class GridPatches(PatchSampling):
    """Every tile of a regular grid once an epoch, shuffled.

    Args:
        overlap: Fraction that neighbouring patches share; 0.5 gives the 361 patches of 1024² a mosaic of U-RISC's
            published code. ``data.patches_per_epoch`` is not used.
    """

    def __init__(self, overlap: float = 0.5) -> None:
        self.overlap = overlap

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`."""
        tiles = [
            (index, origin) for index, mosaic in enumerate(mosaics) for origin in Grid(mosaic.shape, size, self.overlap)
        ]
        return [tiles[position] for position in random.permutation(len(tiles))]


class ForegroundPatches(PatchSampling):
    """Random positions, patches with little foreground mostly rejected.

    The foreground of a patch is counted exactly, without reading the patch: the labels of all training mosaics are read
    once, into an index of 0.133 byte a pixel. What lies outside of a mosaic has no foreground.

    Args:
        min_fraction: Patches with a smaller fraction of foreground are rejected; 0.01 unless ``min_pixels`` is given.
        reject: Probability of the rejection.
        min_pixels: Patches with fewer foreground pixels are rejected (CleftNet: 200 voxels, with probability 0.95).

    Raises:
        UserError: for a value out of its range, or for both a fraction and a number.
    """

    def __init__(self, min_fraction: float | None = None, reject: float = 0.95, min_pixels: int | None = None) -> None:
        if min_pixels is not None and min_fraction is not None:
            raise UserError(
                f"ForegroundPatches: min_fraction {min_fraction} and min_pixels {min_pixels} are two measures of the "
                "same: pass one of them"
            )
        fraction = 0.01 if min_fraction is None else min_fraction
        if not 0 <= reject <= 1 or not 0 <= fraction <= 1:
            raise UserError(f"ForegroundPatches: min_fraction {fraction} and reject {reject} must be in 0–1")
        if min_pixels is not None and min_pixels < 1:
            raise UserError(f"ForegroundPatches: min_pixels must be at least 1, got {min_pixels}")
        self.min_fraction, self.min_pixels, self.reject = fraction, min_pixels, reject
        self._indices: dict[str, ForegroundIndex] = {}

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`.

        Raises:
            UserError: if hardly any patch is accepted, or ``min_pixels`` exceeds a patch.
        """
        wanted = self.min_fraction * math.prod(size) if self.min_pixels is None else self.min_pixels
        if wanted > math.prod(size):
            raise UserError(f"data.sampling.min_pixels {self.min_pixels} is more than a patch of {size} px has")
        self.index(mosaics)
        accepted: list[Position] = []
        for _ in range(1000):
            candidates = RandomPatches().positions(mosaics, size, count, random)
            luck = random.random(count)
            accepted += [
                (mosaic, origin)
                for (mosaic, origin), chance in zip(candidates, luck, strict=True)
                if chance >= self.reject or self.foreground(mosaics[mosaic], origin, size) >= wanted
            ]
            if len(accepted) >= count:
                return accepted[:count]
        least, name = (
            (f"{self.min_fraction:.2%}", "min_fraction")
            if self.min_pixels is None
            else (f"{self.min_pixels} px of", "min_pixels")
        )
        raise UserError(
            f"ForegroundPatches found {len(accepted)} of {count} patches with at least {least} foreground: lower "
            f"data.sampling.{name} or data.sampling.reject"
        )

    def index(self, mosaics: Sequence[MosaicView]) -> None:
        """Index the labels of mosaics that were not seen before; each is read once."""
        new = [mosaic for mosaic in mosaics if mosaic.key not in self._indices]
        for mosaic in tqdm(new, desc="count foreground", unit="mosaic", leave=False, disable=None):
            self._indices[mosaic.key] = ForegroundIndex.of(mosaic)

    def foreground(self, mosaic: MosaicView, origin: Shape, size: Shape) -> int:
        """Number of foreground pixels of a patch of a mosaic that was indexed."""
        return self._indices[mosaic.key].count(origin, size)


class FixedPatches(PatchSampling):
    """Given positions, shuffled every epoch; used by the ``patch`` split of the paper.

    Args:
        given: Mosaic and origin of every patch.
    """

    def __init__(self, given: Sequence[Position]) -> None:
        self.given = list(given)

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`."""
        return [self.given[position] for position in random.permutation(len(self.given))]
