"""How training patches are placed; picked by ``class_path`` under ``data.sampling``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_modules.batch import IGNORE
from data_modules.errors import UserError
from data_modules.grid import Grid, Shape
from data_modules.store import MosaicView

BLOCK = 32
"""Side in px of the blocks whose foreground is counted once, to reject patches without reading them."""

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

    The foreground of a patch is counted on blocks of 32 px that the labels are reduced to once, so that nothing is
    read to be thrown away; what counts is the fraction in the blocks that the patch touches.

    Args:
        min_fraction: Patches with a smaller fraction of foreground are rejected …
        reject: … with this probability (CleftNet: 0.95).
    """

    def __init__(self, min_fraction: float = 0.01, reject: float = 0.95) -> None:
        if not 0 <= reject <= 1 or not 0 <= min_fraction <= 1:
            raise UserError(f"ForegroundPatches: min_fraction {min_fraction} and reject {reject} must be in 0–1")
        self.min_fraction = min_fraction
        self.reject = reject
        self._sums: dict[str, NDArray[np.int64]] = {}

    def positions(
        self, mosaics: Sequence[MosaicView], size: Shape, count: int, random: np.random.Generator
    ) -> list[Position]:
        """See :meth:`PatchSampling.positions`.

        Raises:
            UserError: if hardly any patch is accepted.
        """
        self.count(mosaics)
        accepted: list[Position] = []
        for _ in range(1000):
            candidates = RandomPatches().positions(mosaics, size, count, random)
            luck = random.random(count)
            accepted += [
                candidate
                for candidate, chance in zip(candidates, luck, strict=True)
                if chance >= self.reject
                or self.fraction(mosaics[candidate[0]], candidate[1], size) >= self.min_fraction
            ]
            if len(accepted) >= count:
                return accepted[:count]
        raise UserError(
            f"ForegroundPatches found {len(accepted)} of {count} patches with at least {self.min_fraction:.2%} "
            "foreground: lower data.sampling.min_fraction or data.sampling.reject"
        )

    def count(self, mosaics: Sequence[MosaicView]) -> None:
        """Reduce the labels of mosaics that were not seen before to blocks; each is read once."""
        uncounted = [mosaic for mosaic in mosaics if mosaic.key not in self._sums]
        for mosaic in tqdm(uncounted, desc="count foreground", unit="mosaic", leave=False, disable=None):
            self._sums[mosaic.key] = foreground_sums(mosaic)

    def fraction(self, mosaic: MosaicView, origin: Shape, size: Shape) -> float:
        """Foreground share of the blocks that a patch touches, 0–1, for a mosaic that was counted."""
        sums = self._sums[mosaic.key]
        first = [min(start // BLOCK, side - 2) for start, side in zip(origin, sums.shape, strict=True)]
        last = [
            min(max(a + 1, -(-(start + extent) // BLOCK)), side - 1)
            for a, start, extent, side in zip(first, origin, size, sums.shape, strict=True)
        ]
        box: NDArray[np.int64] = sums[np.ix_(*([a, b] for a, b in zip(first, last, strict=True)))]
        for _ in size:
            box = np.diff(box, axis=0)[0]
        # Of the pixels that were counted: a patch between blocks must not look richer than it is.
        counted = (min(b * BLOCK, side) - a * BLOCK for a, b, side in zip(first, last, mosaic.shape, strict=True))
        return float(box / math.prod(counted))


def foreground_sums(mosaic: MosaicView) -> NDArray[np.int64]:
    """Cumulative foreground counts over blocks of 32 px, with a leading zero along every axis."""
    ndim = len(mosaic.shape)
    counts = np.zeros([-(-side // BLOCK) for side in mosaic.shape], np.int64)
    for start in range(0, mosaic.shape[0], 32 * BLOCK):
        rows = min(32 * BLOCK, mosaic.shape[0] - start)
        mask = mosaic.read_mask((start, *(0,) * (ndim - 1)), (rows, *mosaic.shape[1:]))
        summed = ((mask != 0) & (mask != IGNORE)).astype(np.int64)
        for axis in range(ndim):
            summed = np.add.reduceat(summed, np.arange(0, summed.shape[axis], BLOCK), axis=axis)
        counts[start // BLOCK : start // BLOCK + len(summed)] = summed
    for axis in range(ndim):
        counts = np.cumsum(counts, axis=axis)
    return np.pad(counts, [(1, 0)] * ndim)


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
