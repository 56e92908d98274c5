"""How large what contributes more than k is: what is reported of fields of images and of volumes, and its names."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_emseg.attribution.area import Values, pixels_above


@dataclass(frozen=True)
class Extent:
    """One way of measuring a field, and everything that files, loggers and pictures call it.

    Attributes:
        axes: How many of the last axes are measured; a field is projected along those before them, so that a place
            counts where any section contributes more than k.
        quantity: ``area`` or ``volume``.
        place: What is counted, ``pixel`` or ``voxel``.
        unit: Of the quantity, in names.
        sign: Likewise for people.
        suffix: Of names; empty for S_k itself.
        title: For people.
        label: Of a plot's axis.
        share: What a share is of, for people.
    """

    axes: int
    quantity: str
    place: str
    unit: str
    sign: str
    suffix: str = ""
    title: str = "S_k"
    label: str = "S$_k$"
    share: str = "share of window"

    def counts(self, field: Values, thresholds: Sequence[float]) -> NDArray[np.int64]:
        """Numbers of places, ``int64 (K,)``, whose contribution is greater than each threshold.

        Args:
            field: Normalised field, at least ``axes`` axes.
            thresholds: K values k.

        >>> SHADOW.counts(np.array([[[0.5, 0.0]], [[0.02, -1.0]]], np.float32), [0.01]).tolist()
        [1]
        """
        before = tuple(range(field.ndim - self.axes))
        # Of numbers and NaN the number: NaN is greater than nothing. A field without places has no largest either.
        projected = np.fmax.reduce(field, axis=before, initial=-np.inf) if before else field
        return pixels_above(projected, thresholds)

    def place_nm(self, pixel_size_nm: Sequence[float]) -> float:
        """Area of a pixel in nm², or volume of a voxel in nm³.

        Args:
            pixel_size_nm: One value an axis of the field.
        """
        return float(np.prod(np.asarray(pixel_size_nm[-self.axes :], np.float64)))

    def places(self, shape: Sequence[int]) -> int:
        """Number of places in a field of ``shape`` px."""
        return math.prod(shape[-self.axes :])

    @property
    def column(self) -> str:
        """Of summary tables, ``S_nm2``."""
        return f"S{self.suffix}_{self.unit}"

    def column_at(self, k: float) -> str:
        """Of tables with a row a pixel, ``S_0.01_nm2``."""
        return f"S{self.suffix}_{k:g}_{self.unit}"

    @property
    def place_column(self) -> str:
        """What one place measures, ``pixel_nm2``."""
        return f"{self.place}_{self.unit}"


AREA = Extent(2, "area", "pixel", "nm2", "nm²")
"""S_k of an image (Shi et al. 2021, eq. 10)."""
VOLUME = Extent(3, "volume", "voxel", "nm3", "nm³")
"""S_k of a volume."""
SHADOW = Extent(2, "area", "pixel", "nm2", "nm²", "_xy", "S_xy", "S$_{xy}$", "share in xy")
"""What S_k of a volume covers in xy: of (Y, X) columns those in which any section contributes more than k."""

EXTENTS: Mapping[int, tuple[Extent, ...]] = {2: (AREA,), 3: (VOLUME, SHADOW)}
"""What is reported of fields of so many axes, S_k first; the last one is an area in the plane of the sections."""


@dataclass(frozen=True)
class Size:
    """One extent of one pixel's field.

    Attributes:
        extent: How it was measured.
        counts: Places above each threshold, ``(K,)``.
        place_nm: Of one place, in nm² or nm³, after any resize.
        window: Places of the window that belong to the mosaic.
    """

    extent: Extent
    counts: tuple[int, ...]
    place_nm: float
    window: int

    def nm(self, number: int) -> float:
        """S_k in nm² or nm³ at threshold ``number``."""
        return self.counts[number] * self.place_nm

    def share(self, number: int) -> float:
        """S_k over the window, 0–1, at threshold ``number``."""
        return self.counts[number] / self.window


def sizes_of(
    field: Values, shape: Sequence[int], pixel_size_nm: Sequence[float], thresholds: Sequence[float]
) -> tuple[Size, ...]:
    """Everything that is reported of a field.

    Args:
        field: Normalised field, over the part of it that belongs to the mosaic.
        shape: Of the part of the window that belongs to the mosaic, in px.
        pixel_size_nm: One value an axis, after any resize.
        thresholds: K values k.
    """
    return tuple(
        Size(
            extent,
            tuple(extent.counts(field, thresholds).tolist()),
            extent.place_nm(pixel_size_nm),
            extent.places(shape),
        )
        for extent in EXTENTS[len(shape)]
    )
