"""Smooth random fields, and the cells and membranes of a tissue that they make."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.sparse import csr_array

Reals = NDArray[np.floating[Any]]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Octaves = Sequence[tuple[float, float]]

# Standard deviation of unit white noise after cubic B-spline interpolation in two dimensions.
_SPLINE_STD = 0.48
# Somata and thick neurites, and the thin processes between them.
_CELLS: Sequence[Octaves] = (((700.0, 1.1), (240.0, 0.16), (90.0, 0.02)),) * 5 + (((250.0, 0.9), (80.0, 0.05)),) * 8
_STRENGTH = ((130.0, 0.8), (500.0, 0.6))
_FAINTEST = 0.1
# Change of the lead per nm below which a membrane counts as cut obliquely.
_STEEP = 0.004
_WIDEST = 2.2
_EDGE_NM = 3.0


class SmoothField:
    """Sum of Gaussian random fields: white noise on lattices, interpolated by cubic B-splines.

    Args:
        extent_nm: Height and width of the area to cover in nm.
        octaves: Pairs of lattice spacing in nm and standard deviation; structures are about two spacings wide.
        rng: Source of the noise.
    """

    def __init__(self, extent_nm: tuple[float, float], octaves: Octaves, rng: np.random.Generator) -> None:
        self._octaves = []
        for spacing, deviation in octaves:
            rows, columns = (math.ceil(side / spacing) + 7 for side in extent_nm)
            noise = rng.standard_normal((rows, columns), np.float32)
            self._octaves.append((spacing, noise * np.float32(deviation / _SPLINE_STD)))

    def __call__(self, y_nm: Reals, x_nm: Reals) -> Floats:
        """Evaluate the field on a grid of points.

        Args:
            y_nm: Rows ``(h,)`` in nm, ascending, at most one spacing beyond the extent.
            x_nm: Columns ``(w,)`` likewise.

        Returns:
            ``float32 (h, w)``.
        """
        total = np.zeros((len(y_nm), len(x_nm)), np.float32)
        for spacing, nodes in self._octaves:
            y, x = y_nm / spacing + 1, x_nm / spacing + 1
            first, last = int(y[0]), int(y[-1]) + 4
            by_column = _spline_weights(x, nodes.shape[1]) @ nodes[first:last].T
            total += _spline_weights(y - first, last - first) @ np.ascontiguousarray(by_column.T)
        return total


def _spline_weights(positions: Reals, count: int) -> csr_array:
    # The nodes lie at whole numbers, and the weights of four neighbours are those of the cubic B-spline.
    return BSpline.design_matrix(positions, np.arange(-3.0, count + 1), 3).astype(np.float32)


class Tissue:
    """Cells of a broad range of sizes, between membranes of varying width and contrast.

    A point belongs to the highest of several smooth fields, of coarse ones for large cells and of fine ones for small
    processes; membranes are where two fields are about equally high. Where they part slowly, a membrane counts as cut
    obliquely: it is wide and faint.

    Args:
        extent_nm: Height and width of the mosaic in nm.
        membrane_width_nm: Width of a membrane cut at a right angle in nm.
        rng: Source of all variation.

    Attributes:
        cells: Number of fields, of which each makes many cells.
        reach_nm: Largest distance from a border at which a membrane is drawn.
    """

    cells = len(_CELLS)

    def __init__(self, extent_nm: tuple[float, float], membrane_width_nm: float, rng: np.random.Generator) -> None:
        self._fields = [SmoothField(extent_nm, octaves, rng) for octaves in _CELLS]
        self._strength = SmoothField(extent_nm, _STRENGTH, rng)
        self._half_width = membrane_width_nm / 2
        self.reach_nm = self._half_width * _WIDEST + 2

    def borders(self, y_nm: Reals, x_nm: Reals, step_nm: float) -> tuple[Bytes, Floats, Floats]:
        """Find cells, and the distance to their borders, on a grid of points.

        Args:
            y_nm: Rows ``(h,)`` in nm.
            x_nm: Columns ``(w,)`` in nm.
            step_nm: Distance of neighbouring rows and columns in nm.

        Returns:
            Cells, ``uint8 (h, w)``; distances in nm, ``float32 (h, w)``; tilt of the membranes from 0 to 1 likewise.
        """
        # One more point on every side, for the slopes.
        y = np.concatenate([y_nm[:1] - step_nm, y_nm, y_nm[-1:] + step_nm])
        x = np.concatenate([x_nm[:1] - step_nm, x_nm, x_nm[-1:] + step_nm])
        first, second = np.full((2, len(y), len(x)), -np.inf, np.float32)
        cell = np.zeros(first.shape, np.uint8)
        for number, field in enumerate(self._fields):
            value = field(y, x)
            np.maximum(second, np.minimum(first, value), out=second)
            cell[value > first] = number
            np.maximum(first, value, out=first)
        lead = first - second
        # At a border the lead turns round, so that only the steeper side tells its slope.
        down, across = np.abs(np.diff(lead, axis=0))[:, 1:-1], np.abs(np.diff(lead, axis=1))[1:-1]
        slope = np.hypot(np.maximum(down[1:], down[:-1]), np.maximum(across[:, 1:], across[:, :-1]))
        slope *= np.float32(1 / step_nm)
        tilt = np.clip(1 - slope / np.float32(_STEEP), 0, 1)
        distance = lead[1:-1, 1:-1] / np.maximum(slope, np.float32(1e-5))
        return cell[1:-1, 1:-1], np.asarray(distance, np.float32), np.asarray(tilt, np.float32)

    def membranes(self, y_nm: Reals, x_nm: Reals, pixel_size_nm: float) -> tuple[Bytes, Floats, Bytes]:
        """Draw cells and membranes on a grid of pixels.

        Returns:
            Cells, ``uint8 (h, w)``; darkness of membranes from 0 to 1, ``float32 (h, w)``; membranes, ``uint8 (h, w)``.
        """
        cell, distance, tilt = self.borders(y_nm, x_nm, pixel_size_nm)
        half_width = np.float32(self._half_width) * (1 + np.float32(_WIDEST - 1) * tilt)
        strong = 1 / (1 + np.exp(np.float32(0.3) - 2 * self._strength(y_nm, x_nm)))
        strength = (_FAINTEST + (1 - _FAINTEST) * strong) * (1 - np.float32(0.6) * tilt)
        # An edge sharper than a pixel would look jagged.
        edge = np.float32(max(_EDGE_NM, pixel_size_nm))
        darkness = strength * np.clip((half_width - distance) / edge + np.float32(0.5), 0, 1)
        return cell, darkness, (distance < half_width).astype(np.uint8)
