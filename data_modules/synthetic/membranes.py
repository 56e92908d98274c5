"""Membranes along the cell borders: exact distances per pixel in the blocks that touch a border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.synthetic.cells import CellLattice
from data_modules.synthetic.fields import FieldSum

_FAR = np.float32(1e6)
_EDGE_NM = 3.0

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class MembraneStrip:
    """Membranes of a strip of rows.

    Attributes:
        label: shape (h, X), intp: cell per pixel.
        darkness: shape (h, X), float32 in [0, 1].
        mask: shape (h, X), uint8, 1 = membrane.
    """

    label: NDArray[np.intp]
    darkness: Floats
    mask: NDArray[np.uint8]


def _within_blocks(corner: Floats, row: NDArray[np.intp], column: NDArray[np.intp], block: int) -> Floats:
    """Interpolate values at block corners to the pixels of some blocks.

    Args:
        corner: shape (h + 1, w + 1), values at the corners.
        row: shape (n,), rows of the blocks.
        column: shape (n,), columns of the blocks.
        block: side of a block, px.

    Returns:
        Shape (n, block, block), float32.
    """
    t = ((np.arange(block) + 0.5) / block).astype(np.float32)
    left = corner[row, column, None] * (1 - t) + corner[row + 1, column, None] * t
    right = corner[row, column + 1, None] * (1 - t) + corner[row + 1, column + 1, None] * t
    return np.asarray(left[:, :, None] * (1 - t) + right[:, :, None] * t, np.float32)


class MembranePainter:
    """Draws membranes whose width and contrast vary smoothly along the border.

    Args:
        lattice: the cells.
        width_nm: width of a membrane cut at a right angle, nm.
        oblique_widening: how many times wider the most oblique cut is.
        contrast: darkness of the faintest and the strongest membrane, each in [0, 1].
        extent_nm: height and width of the mosaic, nm.
        rng: source of the variation.
    """

    def __init__(
        self,
        lattice: CellLattice,
        width_nm: float,
        oblique_widening: float,
        contrast: tuple[float, float],
        extent_nm: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        self._lattice = lattice
        self._half_width = width_nm / 2
        # An edge sharper than a pixel would look jagged.
        self._edge = np.float32(max(_EDGE_NM, lattice.block_nm / lattice.block))
        self._widening = oblique_widening
        self._contrast = contrast
        extent = (extent_nm[0] + lattice.block_nm, extent_nm[1] + lattice.block_nm)
        self._oblique = FieldSum(extent, ((220.0, 1.0), (900.0, 0.5)), rng)
        self._strength = FieldSum(extent, ((130.0, 0.8), (500.0, 0.6)), rng)

    def strip(self, first: int, last: int) -> MembraneStrip:
        """Draw rows [first, last) of the block lattice.

        Returns:
            A strip of (last - first) × block rows and columns × block columns, px.
        """
        lattice, block = self._lattice, self._lattice.block
        label = np.repeat(np.repeat(lattice.label[first:last], block, axis=0), block, axis=1)
        darkness = np.zeros(label.shape, np.float32)
        mask = np.zeros(label.shape, np.uint8)
        row, column = np.nonzero(lattice.near[first:last])
        if len(row):
            distance, cell = self._distance(first, last, row, column)
            half_width, strength = self._profile(first, last, row, column)
            shade = strength * np.clip((half_width - distance) / self._edge + np.float32(0.5), 0, 1)
            blocks = (-1, block, lattice.label.shape[1], block)
            label.reshape(blocks)[row, :, column, :] = cell
            darkness.reshape(blocks)[row, :, column, :] = shade
            mask.reshape(blocks)[row, :, column, :] = distance < half_width
        return MembraneStrip(label, darkness, mask)

    def _grid(self, first: int, last: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lattice rows and columns of the corners of block rows [first, last)."""
        return np.arange(first, last + 1.0), np.arange(self._lattice.label.shape[1] + 1.0)

    def _profile(self, first: int, last: int, row: NDArray[np.intp], column: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Half width (nm) and darkness (0 to 1) per pixel of the blocks, each (n, block, block)."""
        y, x = (axis * self._lattice.block_nm for axis in self._grid(first, last))
        tilt = np.clip(self._oblique(y, x) - np.float32(0.7), 0, 1)
        strong = 1 / (1 + np.exp(-2 * self._strength(y, x) - np.float32(0.3)))
        faint, dark = self._contrast
        strength = (faint + (dark - faint) * strong) * (1 - np.float32(0.6) * tilt)
        half_width = self._half_width * (1 + (self._widening - 1) * tilt)
        block = self._lattice.block
        return (
            _within_blocks(half_width.astype(np.float32), row, column, block),
            _within_blocks(strength.astype(np.float32), row, column, block),
        )

    def _distance(
        self, first: int, last: int, row: NDArray[np.intp], column: NDArray[np.intp]
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Distance to the border (nm) and cell per pixel of the blocks, each (n, block, block)."""
        lattice, block = self._lattice, self._lattice.block
        corner = lattice.corners(*self._grid(first, last))
        index = lattice.candidates[first + row, column]
        origin = corner[:, row, column]
        # Positions relative to the block keep squared distances exact in single precision.
        seed = (lattice.seeds.centres[index] - origin.T[:, None]).astype(np.float32)
        pixel = [_within_blocks(corner[a], row, column, block) - origin[a, :, None, None] for a in range(2)]
        power = np.empty((len(row), index.shape[1], block, block), np.float32)
        offset = (np.square(seed).sum(axis=2) - lattice.seeds.radii[index] ** 2).astype(np.float32)
        for k in range(index.shape[1]):
            slope = 2 * seed[:, k, :, None, None]
            power[:, k] = offset[:, k, None, None] - slope[:, 0] * pixel[0] - slope[:, 1] * pixel[1]
        own = power.argmin(axis=1)
        scale = self._scale(corner, row, column, seed)
        labels = lattice.seeds.labels[index]
        # Seeds of one cell share no border.
        apart = np.where(labels[:, :, None] == labels[:, None, :], _FAR, np.float32(0))
        nearest = np.full(own.shape, _FAR)
        block_number = np.arange(len(row))[:, None, None]
        lowest = power.min(axis=1)
        for k in range(index.shape[1]):
            border = (power[:, k] - lowest) * scale[block_number, own, k] + apart[block_number, own, k]
            np.minimum(nearest, border, out=nearest)
        return nearest, labels[block_number, own]

    def _scale(
        self,
        corner: Floats,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        seed: Floats,
    ) -> Floats:
        """Factors from power differences to distances in the unwarped mosaic.

        The difference of two power distances grows with twice the seeds' distance per unit of warped
        length; the warp's slope along the border's normal turns that into nm of the mosaic.

        Returns:
            Shape (n, k, k), float32, 1/nm, for the border between two candidate seeds.
        """
        values = [corner[:, row + dy, column + dx] for dy in range(2) for dx in range(2)]
        by_y = (values[2] + values[3] - values[0] - values[1]) / (2 * self._lattice.block_nm)
        by_x = (values[1] + values[3] - values[0] - values[2]) / (2 * self._lattice.block_nm)
        step = seed[:, None, :, :] - seed[:, :, None, :]
        rate = [np.einsum("nijc,cn->nij", step, slope) for slope in (by_y, by_x)]
        return np.asarray(0.5 / np.maximum(np.hypot(rate[0], rate[1]), 1), np.float32)
