"""Areas S_k of attribution fields, and the error of those of fast fields."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.geometry import Shape
from lightning_emseg.attribution.method import Field
from lightning_emseg.attribution.windows import SECTION_AXES

Values = NDArray[np.float32]
THRESHOLDS = (0.01, 0.05, 0.1)
"""Of the tables; 0.01 is the one that U-RISC's figures are of."""
NORMALISATION = "the largest magnitude in the window is 1"
"""What :func:`normalise` does, for records."""
_KEPT = 0.99
"""Share of a field's area within its effective reach."""


def normalise(attributions: Values) -> Values:
    """Divide attributions by the largest magnitude, so that they lie in −1 … 1; a field of zeros stays as it is.

    Shi et al. 2021 give the range and not the rule; S_k depends on it.
    """
    largest = float(np.abs(attributions).max(initial=0))
    return attributions / np.float32(largest) if largest > 0 else attributions


def pixels_above(field: Values, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Count the pixels, ``int64 (K,)``, whose contribution is greater than each threshold.

    Args:
        field: Normalised field, any shape.
        thresholds: K values k.
    """
    # From the largest on: NaN is sorted last and thus not counted, as it is greater than nothing.
    falling = np.sort(-field, axis=None)
    # Compared in the field's precision, as `field > k` is.
    return np.searchsorted(falling, -np.asarray(thresholds, field.dtype), side="left")


@dataclass(frozen=True)
class Extent:
    """One way of measuring a field, and everything that files, loggers and pictures call it.

    Attributes:
        axes: How many of the last axes are measured; a field is projected along those before them, so that a place
            counts where any section contributes more than k.
        quantity: ``area`` or ``volume``.
        place: Counted place, ``pixel`` or ``voxel``.
        unit: Unit of the quantity in names.
        sign: Unit of the quantity for people.
        suffix: End of names; empty for S_k itself.
        title: Title for people.
        label: Label of a plot's axis.
        share: Name of the share for people.
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
        """Count the places, ``int64 (K,)``, whose contribution is greater than each threshold.

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

    @property
    def column(self) -> str:
        """Column of summary tables, ``S_nm2``."""
        return f"S{self.suffix}_{self.unit}"

    @property
    def place_column(self) -> str:
        """Column of the size of one place, ``pixel_nm2``."""
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
class FieldSize:
    """One extent of one pixel's field.

    Attributes:
        extent: How it was measured.
        counts: Places above each threshold, ``(K,)``.
        place_nm: Size of one place in nm² or nm³, after any resize.
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


def measure_sizes(
    field: Values, shape: Sequence[int], pixel_size_nm: Sequence[float], thresholds: Sequence[float]
) -> tuple[FieldSize, ...]:
    """Measure all extents of a field.

    Args:
        field: Normalised field, over the part of it that belongs to the mosaic.
        shape: Shape of the part of the window that belongs to the mosaic, in px.
        pixel_size_nm: One value an axis, after any resize.
        thresholds: K values k.
    """
    return tuple(
        FieldSize(
            extent,
            tuple(extent.counts(field, thresholds).tolist()),
            float(np.prod(np.asarray(pixel_size_nm[-extent.axes :], np.float64))),
            math.prod(shape[-extent.axes :]),
        )
        for extent in EXTENTS[len(shape)]
    )


@dataclass(frozen=True)
class Difference:
    """One fast field against the exact field of the same pixel.

    Attributes:
        areas: Pixels above each threshold in the fast field, ``(K,)``.
        exact_areas: Pixels above each threshold in the exact field.
        correlation: Pearson's, over all pixels of the window.
    """

    areas: tuple[int, ...]
    exact_areas: tuple[int, ...]
    correlation: float


@dataclass(frozen=True)
class Accuracy:
    """Errors of fast fields on a sample of the pixels, in the order of the thresholds.

    Attributes:
        thresholds: K values k.
        pixels: Number of pixels in the sample.
        mean_error: Mean over pixels of ``|S_k / exact S_k − 1|``; S_k itself, in px, where the exact one is 0.
        largest_error: The largest of these.
        bias: Mean S_k over the mean exact S_k, minus 1: the error of a table's means.
        correlation: Mean over pixels of the correlation with the exact field.
        smallest_correlation: The smallest of these.
    """

    thresholds: tuple[float, ...]
    pixels: int
    mean_error: tuple[float, ...]
    largest_error: tuple[float, ...]
    bias: tuple[float, ...]
    correlation: float
    smallest_correlation: float


def compare_fields(fast: Values, exact: Values, thresholds: Sequence[float]) -> Difference:
    """Compare two fields of one pixel, each over the whole window and not normalised yet."""
    mine, truth = normalise(fast).ravel(), normalise(exact).ravel()
    areas, exact_areas = (pixels_above(field, thresholds).tolist() for field in (mine, truth))
    # A field without any attribution correlates with nothing but another such field.
    flat = mine.std() == 0 or truth.std() == 0
    correlation = float(np.array_equal(mine, truth)) if flat else float(np.corrcoef(mine, truth)[0, 1])
    return Difference(tuple(areas), tuple(exact_areas), correlation)


def summarise_accuracy(differences: Sequence[Difference], thresholds: Sequence[float]) -> Accuracy | None:
    """Pool the differences of a sample; ``None`` without one."""
    if not differences:
        return None
    areas = np.array([difference.areas for difference in differences], np.float64)
    exact = np.array([difference.exact_areas for difference in differences], np.float64)
    relative = np.abs(areas - exact) / np.maximum(exact, 1)
    correlations = [difference.correlation for difference in differences]
    return Accuracy(
        tuple(thresholds),
        len(differences),
        tuple(relative.mean(axis=0).tolist()),
        tuple(relative.max(axis=0).tolist()),
        tuple(((areas - exact).sum(axis=0) / np.maximum(exact.sum(axis=0), 1)).tolist()),
        float(np.mean(correlations)),
        float(np.min(correlations)),
    )


def effective_reach(fields: Sequence[Field], threshold: float) -> Shape:
    """Compute the distance from the pixel within which 99 % of the pixels above a threshold lie, over all fields.

    Args:
        fields: Exact ones, at least one.
        threshold: The smallest k of interest.

    Returns:
        Distance in px, at least 1, one value an axis. That along Y and X is the same, Chebyshev's. Voxels are rarely
        cubes, and networks shrink sections and their number differently: along Z it is a distance of its own, and
        99 % of the volume lie within both.
    """
    distances: list[NDArray[np.int64]] = []
    for field in fields:
        places = np.argwhere(normalise(field.values) > threshold) + np.array(field.origin)
        apart = np.abs(places - np.array(field.pixel))
        in_plane = apart[:, -SECTION_AXES:].max(axis=1, initial=0, keepdims=True)
        distances.append(np.concatenate([apart[:, :-SECTION_AXES], in_plane], axis=1))
    found = np.concatenate(distances)
    # The shares beyond each of the distances add up, at worst.
    each = 1 - (1 - _KEPT) / found.shape[1] if found.shape[1] > 1 else _KEPT
    reaches = np.quantile(found, each, axis=0, method="higher") if len(found) else np.ones(found.shape[1])
    *across, plane = (max(1, int(reach)) for reach in reaches)
    return (*across, *(plane,) * min(SECTION_AXES, len(fields[0].pixel)))
