"""How training patches are placed; picked by ``class_path`` under ``data.sampling``."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from data_modules.errors import UserError
from data_modules.foreground_index import ForegroundIndex
from data_modules.grid import Grid, Shape
from data_modules.store import MosaicView

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
