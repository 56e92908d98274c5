"""What preparation and microscope add to the tissue: texture, staining, artefacts and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.synthetic.fields import FieldSum

Floats = NDArray[np.float32]

_CYTOPLASM = 0.66
_MEMBRANE = np.float32(0.16)


@dataclass(frozen=True)
class Streak:
    """A fold or knife mark: a slightly wavy line across the whole mosaic.

    Attributes:
        normal: unit normal Y X.
        offset: distance of the line from the origin along the normal, nm.
        width: half width, nm.
        gain: relative change of the grey value on the line, -1 to 1.
    """

    normal: tuple[float, float]
    offset: float
    width: float
    gain: float

    def apply(self, grey: Floats, y_nm: Floats, x_nm: Floats) -> None:
        """Scale the grey values near the line in place; y_nm (h, 1) and x_nm (1, X) are pixel centres."""
        a, b = (np.float32(part) for part in self.normal)
        along = y_nm * b - x_nm * a
        distance = y_nm * a + x_nm * b - np.float32(self.offset)
        distance += 60 * np.sin(along / 900) + np.float32(self.width / 4) * np.sin(along / 150)
        near = np.abs(distance) < 2.5 * self.width
        grey[near] *= 1 + np.float32(self.gain) * np.exp(-np.square(distance[near] / np.float32(self.width)))


@dataclass(frozen=True)
class Dirt:
    """A dark particle on the section; y, x and radius in nm."""

    y: float
    x: float
    radius: float
    phase: float

    def apply(self, grey: Floats, y_nm: Floats, x_nm: Floats) -> None:
        """Darken the grey values under the particle in place; coordinates as for a streak."""
        rows = slice(*np.searchsorted(y_nm[:, 0], (self.y - 2 * self.radius, self.y + 2 * self.radius)))
        columns = slice(*np.searchsorted(x_nm[0], (self.x - 2 * self.radius, self.x + 2 * self.radius)))
        dy, dx = y_nm[rows] - np.float32(self.y), x_nm[:, columns] - np.float32(self.x)
        angle = np.arctan2(dy, dx)
        outline = 1 + 0.2 * np.sin(2 * angle + self.phase) + 0.1 * np.sin(5 * angle - self.phase)
        inside = np.clip((self.radius * outline - np.hypot(dy, dx)) / 15, 0, 1)
        grey[rows, columns] *= (1 - 0.75 * inside).astype(np.float32)


def _artefacts(extent_nm: tuple[float, float], per_1000um2: float, rng: np.random.Generator) -> list[Streak | Dirt]:
    """Folds, knife marks and dirt particles of a mosaic, each expected at the given density."""
    height, width = extent_nm
    folds, marks, particles = rng.poisson(per_1000um2 * height * width * 1e-9, 3)
    artefacts: list[Streak | Dirt] = []
    for widths, gain in [((35.0, 90.0), -0.55)] * int(folds) + [((8.0, 20.0), 0.3)] * int(marks):
        angle = rng.uniform(0, np.pi)
        normal = float(np.sin(angle)), float(np.cos(angle))
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        artefacts.append(Streak(normal, y * normal[0] + x * normal[1], rng.uniform(*widths), gain))
    for _ in range(int(particles)):
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        artefacts.append(Dirt(y, x, rng.uniform(60, 250), rng.uniform(0, 2 * np.pi)))
    return artefacts


class Imaging:
    """Turns cells, organelles and membranes into the grey values of a micrograph.

    Args:
        extent_nm: height and width of the mosaic, nm.
        pixel_size_nm: side of a pixel, nm.
        cells: number of cell labels.
        texture: standard deviation of the cytoplasm's texture, grey values from 0 to 1.
        noise: standard deviation of the pixel noise, grey values from 0 to 1.
        artefacts_per_1000um2: expected number each of folds, knife marks and dirt particles.
        rng: source of all but the pixel noise.
    """

    def __init__(
        self,
        extent_nm: tuple[float, float],
        pixel_size_nm: float,
        cells: int,
        texture: float,
        noise: float,
        artefacts_per_1000um2: float,
        rng: np.random.Generator,
    ) -> None:
        self._pixel_size = pixel_size_nm
        self._noise = np.float32(noise)
        self._grey = rng.normal(_CYTOPLASM, 0.075, cells).astype(np.float32)
        self._roughness = (texture * rng.uniform(0.6, 1.5, cells)).astype(np.float32)
        self._texture = FieldSum(extent_nm, ((7.0, 0.8), (22.0, 0.5), (80.0, 0.35)), rng)
        self._gain = FieldSum(extent_nm, ((6000.0, 0.10), (1500.0, 0.04)), rng)
        self._offset = FieldSum(extent_nm, ((4000.0, 0.05), (700.0, 0.015)), rng)
        self._artefacts = _artefacts(extent_nm, artefacts_per_1000um2, rng)

    def _axes(self, shape: tuple[int, ...], top: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel centres of a strip along Y and X, nm."""
        rows, columns = np.arange(shape[0], dtype=np.float64) + top, np.arange(shape[1], dtype=np.float64)
        return (rows + 0.5) * self._pixel_size, (columns + 0.5) * self._pixel_size

    def cytoplasm(self, label: NDArray[np.intp], top: int) -> Floats:
        """Grey level and texture of the cells.

        Args:
            label: shape (h, X), cell per pixel.
            top: first row in the mosaic, px.

        Returns:
            Shape (h, X), float32, about 0 to 1.
        """
        grey = self._texture(*self._axes(label.shape, top))
        grey *= self._roughness[label]
        grey += self._grey[label]
        return grey

    def expose(self, grey: Floats, darkness: Floats, top: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Add membranes, artefacts, staining and noise.

        Args:
            grey: shape (h, X), tissue without membranes, about 0 to 1; overwritten.
            darkness: shape (h, X), membranes, 0 to 1.
            top: first row in the mosaic, px.
            rng: source of the pixel noise of this strip.

        Returns:
            Shape (h, X), uint8.
        """
        grey += darkness * (_MEMBRANE - grey)
        y, x = self._axes(grey.shape, top)
        for artefact in self._artefacts:
            artefact.apply(grey, y[:, None].astype(np.float32), x[None].astype(np.float32))
        grey *= 1 + self._gain(y, x)
        grey += self._offset(y, x)
        grey += self._noise * rng.standard_normal(grey.shape, np.float32)
        return (grey.clip(0, 1) * 255).astype(np.uint8)
