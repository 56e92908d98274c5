"""Smooth random fields over the mosaic, evaluated window by window."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_CHUNK = 512
# Standard deviation of unit white noise after cubic B-spline interpolation in two dimensions.
_SPLINE_STD = 0.48


def _spline_rows(position: NDArray[np.float64]) -> tuple[int, NDArray[np.float32]]:
    """Weights of the cubic B-spline for ascending positions on a lattice.

    Args:
        position: shape (n,), lattice units (1 = one lattice spacing), ascending, ≥ 0.

    Returns:
        The first lattice node in use, and weights of shape (n, nodes), float32, rows summing to 1.
    """
    node = np.floor(position).astype(np.intp)
    t = position - node
    first = int(node[0])
    weights = np.zeros((len(position), int(node[-1]) - first + 4), np.float32)
    row = np.arange(len(position))
    taps = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3)
    for k, tap in enumerate(taps):
        weights[row, node - first + k] = tap / 6
    return first, weights


class SmoothField:
    """A Gaussian random field with zero mean, standard deviation ≈ 1 and one length scale.

    White noise on a lattice is interpolated with cubic B-splines, which are twice continuously
    differentiable: neither the field nor its slope shows the lattice.

    Args:
        extent_nm: height and width of the area to cover, nm.
        spacing_nm: lattice spacing, nm; structures are about two spacings wide.
        rng: source of the noise.
    """

    def __init__(self, extent_nm: tuple[float, float], spacing_nm: float, rng: np.random.Generator) -> None:
        self.spacing_nm = spacing_nm
        rows, columns = (math.ceil(side / spacing_nm) + 5 for side in extent_nm)
        self._values = rng.standard_normal((rows, columns), np.float32) / np.float32(_SPLINE_STD)

    def __call__(self, y_nm: NDArray[np.float64], x_nm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Evaluate the field on a grid of points.

        Args:
            y_nm: shape (h,), ascending, nm, within the extent.
            x_nm: shape (w,), ascending, nm, within the extent.

        Returns:
            Shape (h, w), float32.
        """
        top, by_row = _spline_rows(y_nm / self.spacing_nm)
        rows = by_row @ self._values[top : top + by_row.shape[1]]
        out = np.empty((len(y_nm), len(x_nm)), np.float32)
        # Chunks of columns keep the weight matrix small: each pixel depends on four nodes only.
        for start in range(0, len(x_nm), _CHUNK):
            left, by_column = _spline_rows(x_nm[start : start + _CHUNK] / self.spacing_nm)
            np.matmul(
                rows[:, left : left + by_column.shape[1]],
                by_column.T,
                out=out[:, start : start + _CHUNK],
            )
        return out


class FieldSum:
    """A weighted sum of smooth fields of several length scales.

    Args:
        extent_nm: height and width of the area to cover, nm.
        octaves: pairs of lattice spacing (nm) and amplitude (standard deviation).
        rng: source of the noise.
    """

    def __init__(
        self,
        extent_nm: tuple[float, float],
        octaves: tuple[tuple[float, float], ...],
        rng: np.random.Generator,
    ) -> None:
        self._parts = [(np.float32(amplitude), SmoothField(extent_nm, spacing, rng)) for spacing, amplitude in octaves]

    def __call__(self, y_nm: NDArray[np.float64], x_nm: NDArray[np.float64]) -> NDArray[np.float32]:
        """Evaluate the sum on a grid of points; see `SmoothField.__call__`."""
        out = np.zeros((len(y_nm), len(x_nm)), np.float32)
        for amplitude, part in self._parts:
            out += amplitude * part(y_nm, x_nm)
        return out
