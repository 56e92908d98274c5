"""Positions of training patches; picked by ``class_path`` under ``data.sampling``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.geometry import Grid, Shape
from data_modules.store import MosaicView

READ_PX = 2**26
"""Largest number of pixels that are read at once, unless a row has more."""
Position = tuple[int, Shape]
"""Mosaic and origin of a patch."""


@dataclass(frozen=True)
class ForegroundIndex:
    """Foreground of a mosaic in 1/8 byte a pixel.

    Attributes:
        shape: Shape of the mosaic in px.
        bits: One bit a pixel, 8 to a byte along X, the first the highest; ``uint8 ([Z,] Y, X / 8)``.
    """

    shape: Shape
    bits: NDArray[np.uint8]

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
        return cls(mosaic.shape, bits)

    def count(self, origin: Shape, size: Shape) -> int:
        """Count the foreground pixels of a patch; what lies outside the mosaic has none.

        Args:
            origin: First pixel of the patch, negative where it begins outside.
            size: Size of the patch in px.
        """
        *leading, (start, stop) = (
            (min(max(first, 0), side), min(max(first + extent, 0), side))
            for first, extent, side in zip(origin, size, self.shape, strict=True)
        )
        if start >= stop:
            return 0
        first, last = start // 8, -(-stop // 8)
        kept = np.full(last - first, 0xFF, np.uint8)
        kept[0] &= 0xFF >> start % 8
        kept[-1] &= 0xFF << -stop % 8 & 0xFF
        bits = self.bits[(*(slice(*ends) for ends in leading), slice(first, last))]
        return int(np.bitwise_count(bits & kept).sum())


def masks_of(mosaic: MosaicView, most_px: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Iterate over first row and mask of parts of a mosaic that follow each other along its first axis.

    Args:
        mosaic: Mosaic with a label.
        most_px: Largest number of pixels of a part; a single row is never cut.
    """
    # A power of two, as chunks are high: few are decoded twice.
    step = 1 << max(0, (most_px // math.prod(mosaic.shape[1:])).bit_length() - 1)
    for start in range(0, mosaic.shape[0], step):
        rows = min(step, mosaic.shape[0] - start)
        yield start, mosaic.read_mask((start, *(0,) * (len(mosaic.shape) - 1)), (rows, *mosaic.shape[1:]))


class PatchSampling(ABC):
    """Placement of training patches; subclasses are picked by ``class_path`` under ``data.sampling``."""

    @abstractmethod
    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """Choose the positions of one epoch, in order.

        Args:
            mosaics: Training mosaics, none smaller than ``size``.
            size: Size of a patch in px.
            count: Number of patches wanted.
            random: Generator that is seeded by (seed, epoch).
        """


class RandomPatches(PatchSampling):
    """Uniform placement over all positions of all mosaics, so that a mosaic counts by its area."""

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
    once, into an index of 1/8 byte a pixel. What lies outside of a mosaic has no foreground.

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
        new = [mosaic for mosaic in mosaics if mosaic.key not in self._indices]
        for mosaic in tqdm(new, desc="count foreground", unit="mosaic", leave=False, disable=None):
            self._indices[mosaic.key] = ForegroundIndex.of(mosaic)
        accepted: list[Position] = []
        for _ in range(1000):
            candidates = RandomPatches().positions(mosaics, size, count, random)
            luck = random.random(count)
            accepted += [
                (place, origin)
                for (place, origin), chance in zip(candidates, luck, strict=True)
                if chance >= self.reject or self._indices[mosaics[place].key].count(origin, size) >= wanted
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
