"""Cells of a synthetic mosaic: a curved, Voronoi-like partition with a broad range of sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data_modules.synthetic.fields import FieldSum

# Pairs of lattice spacing and amplitude in nm. Slopes stay well below 1, so the warp never folds.
_WARP_OCTAVES = ((1600.0, 280.0), (520.0, 95.0), (190.0, 22.0), (90.0, 5.0))
_MARGIN_NM = 1800.0
# Seeds that may own a pixel of a block; the block is much smaller than the smallest cell.
_CANDIDATES = 6
_BLOCK_NM = 18.0
_MERGED_SHARE = 0.35
# Many more small discs are tried than fit, so that few gaps stay open.
_SMALL_COVER = 12.0


def thin_out(centres: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.intp]:
    """Choose discs that do not overlap; earlier discs win.

    Args:
        centres: shape (n, 2), nm.
        radii: shape (n,), nm.

    Returns:
        Ascending indices of the discs kept.
    """
    if len(centres) == 0:
        return np.empty(0, np.intp)
    pairs = cKDTree(centres).query_pairs(2 * float(radii.max()), output_type="ndarray")
    gap = np.linalg.norm(centres[pairs[:, 0]] - centres[pairs[:, 1]], axis=1) - radii[pairs].sum(axis=1)
    pairs = np.sort(pairs[gap < 0], axis=1)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(centres) + 1))
    keep = np.ones(len(centres), np.bool_)
    for i in range(len(centres)):
        if keep[i]:
            keep[pairs[starts[i] : starts[i + 1], 1]] = False
    return np.flatnonzero(keep)


def _discs(
    box_nm: tuple[float, float], diameters_nm: tuple[float, float], cover: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Candidate discs with log-uniform diameters and a total area of cover × box."""
    low, high = diameters_nm
    expected = math.pi / 8 * (high**2 - low**2) / math.log(high / low)
    count = int(rng.poisson(cover * box_nm[0] * box_nm[1] / expected))
    radii = low * (high / low) ** rng.random(count) / 2
    return rng.random((count, 2)) * np.asarray(box_nm), radii


@dataclass(frozen=True)
class CellSeeds:
    """Seeds of a power diagram, in which a seed's disc lies inside the seed's own cell.

    Attributes:
        centres: shape (n, 2), nm, Y X.
        radii: shape (n,), nm.
        labels: shape (n,), intp; seeds with the same label form one cell.
    """

    centres: NDArray[np.float64]
    radii: NDArray[np.float64]
    labels: NDArray[np.intp]

    @staticmethod
    def sample(
        extent_nm: tuple[float, float],
        large_nm: tuple[float, float],
        small_nm: tuple[float, float],
        large_cover: float,
        rng: np.random.Generator,
    ) -> CellSeeds:
        """Pack large discs loosely and fill the gaps with small ones.

        Args:
            extent_nm: height and width of the mosaic, nm.
            large_nm: smallest and largest diameter of large cells, nm.
            small_nm: smallest and largest diameter of small processes, nm.
            large_cover: area of the large discs tried, as a share of the mosaic.
            rng: source of the positions.
        """
        box = (extent_nm[0] + 2 * _MARGIN_NM, extent_nm[1] + 2 * _MARGIN_NM)
        big, big_radii = _discs(box, large_nm, large_cover, rng)
        kept = thin_out(big, big_radii)
        big, big_radii = big[kept], big_radii[kept]
        small, small_radii = _discs(box, small_nm, _SMALL_COVER, rng)
        outside = np.ones(len(small), np.bool_)
        for centre, radius in zip(big, big_radii, strict=True):
            outside &= np.hypot(*(small - centre).T) > small_radii + radius
        small, small_radii = small[outside], small_radii[outside]
        kept = thin_out(small, small_radii)
        centres = np.concatenate([big, small[kept]])
        labels = np.arange(len(centres))
        # Joining neighbours gives elongated and indented processes, which a power diagram lacks.
        if len(kept) > 1:
            neighbour = cKDTree(centres[len(big) :]).query(centres[len(big) :], k=2)[1][:, 1] + len(big)
            joined = np.flatnonzero(rng.random(len(kept)) < _MERGED_SHARE)
            labels[joined + len(big)] = neighbour[joined]
        return CellSeeds(centres - _MARGIN_NM, np.concatenate([big_radii, small_radii[kept]]), labels)


class CellLattice:
    """The partition on a lattice of square blocks of pixels.

    Attributes:
        seeds: the seeds.
        block: side of a block, px, a power of two.
        block_nm: side of a block, nm.
        candidates: shape (rows, columns, 6), intp: seeds that may own a pixel of the block.
        label: shape (rows, columns), intp: cell at the block's centre.
        near: shape (rows, columns), bool: the block may touch a membrane.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        pixel_size_nm: float,
        seeds: CellSeeds,
        reach_nm: float,
        rng: np.random.Generator,
    ) -> None:
        """Find the nearest seeds of every block.

        Args:
            shape: mosaic size Y X, px.
            pixel_size_nm: side of a pixel, nm.
            seeds: the seeds.
            reach_nm: largest distance from a border at which a membrane is drawn, nm.
            rng: source of the warp.
        """
        self.seeds = seeds
        self.block = 2 ** min(4, max(0, round(math.log2(_BLOCK_NM / pixel_size_nm))))
        self.block_nm = self.block * pixel_size_nm
        self._columns = -(-shape[1] // self.block)
        rows = -(-shape[0] // self.block)
        extent = ((rows + 1) * self.block_nm, (self._columns + 1) * self.block_nm)
        self._warp = [FieldSum(extent, _WARP_OCTAVES, rng) for _ in range(2)]
        self._find_nearest(rows, reach_nm)

    def corners(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float32]:
        """Warped positions of a grid of block corners.

        Args:
            rows: shape (h,), lattice units; integers are corners, halves are centres.
            columns: shape (w,), lattice units.

        Returns:
            Shape (2, h, w), float32: warped Y and X, nm.
        """
        y, x = rows * self.block_nm, columns * self.block_nm
        warped_y = self._warp[0](y, x) + y[:, None]
        warped_x = self._warp[1](y, x) + x[None, :]
        return np.stack([warped_y, warped_x]).astype(np.float32)

    def _find_nearest(self, rows: int, reach_nm: float) -> None:
        """Fill `candidates`, `label` and `near` for all blocks."""
        centres, radii = self.seeds.centres, self.seeds.radii
        # A third coordinate turns the power distance |p - s|² - r² into a plain distance.
        height = np.sqrt(radii.max() ** 2 - radii**2)
        tree = cKDTree(np.column_stack([centres, height]))
        found = min(_CANDIDATES, len(centres))
        shape = (rows, self._columns)
        self.candidates = np.empty((*shape, found), np.intp)
        self.near = np.empty(shape, np.bool_)
        columns = np.arange(self._columns) + 0.5
        # Blocks reach past the centre by half their diagonal, and the warp stretches that.
        slack = 1.8 * (reach_nm + self.block_nm * math.sqrt(0.5))
        for row in range(rows):
            y, x = self.corners(np.array([row + 0.5]), columns)[:, 0].astype(np.float64)
            distance, index = tree.query(np.column_stack([y, x, np.zeros_like(x)]), k=found)
            own = index[:, :1]
            gap = np.linalg.norm(centres[index] - centres[own], axis=2)
            other = self.seeds.labels[index] != self.seeds.labels[own]
            power = distance**2 - distance[:, :1] ** 2
            border = np.where(other, power / (2 * np.maximum(gap, 1)), np.inf).min(axis=1)
            self.candidates[row], self.near[row] = index, border < slack
        self.label = self.seeds.labels[self.candidates[:, :, 0]]
