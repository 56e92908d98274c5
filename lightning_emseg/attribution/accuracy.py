"""How far fast fields are from exact ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_modules.grid import Shape
from lightning_emseg.attribution.area import Values, normalised, pixels_above
from lightning_emseg.attribution.fields import Field
from lightning_emseg.attribution.sides import SECTION_AXES


@dataclass(frozen=True)
class Difference:
    """One fast field against the exact field of the same pixel.

    Attributes:
        areas: Pixels above each threshold in the fast field, ``(K,)``.
        exact_areas: Likewise in the exact field.
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


def compare(fast: Values, exact: Values, thresholds: Sequence[float]) -> Difference:
    """Compare two fields of one pixel, each over the whole window and not normalised yet."""
    mine, truth = normalised(fast).ravel(), normalised(exact).ravel()
    areas, exact_areas = (pixels_above(field, thresholds).tolist() for field in (mine, truth))
    # A field without any attribution correlates with nothing but another such field.
    flat = mine.std() == 0 or truth.std() == 0
    correlation = float(np.array_equal(mine, truth)) if flat else float(np.corrcoef(mine, truth)[0, 1])
    return Difference(tuple(areas), tuple(exact_areas), correlation)


def summarise(differences: Sequence[Difference], thresholds: Sequence[float]) -> Accuracy | None:
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


def effective_reach(fields: Sequence[Field], threshold: float, kept: float = 0.99) -> Shape:
    """Distance from the pixel within which almost all of a field's area lies.

    Args:
        fields: Exact ones, at least one.
        threshold: The smallest k of interest.
        kept: Share of all pixels above the threshold, over the fields together, 0–1.

    Returns:
        Distance in px, at least 1, one value an axis. That along Y and X is the same, Chebyshev's. Voxels are rarely
        cubes, and networks shrink sections and their number differently: along Z it is a distance of its own, and
        almost all of the area lies within both.
    """
    distances: list[NDArray[np.int64]] = []
    for field in fields:
        places = np.argwhere(normalised(field.values) > threshold) + np.array(field.origin)
        apart = np.abs(places - np.array(field.pixel))
        in_plane = apart[:, -SECTION_AXES:].max(axis=1, initial=0, keepdims=True)
        distances.append(np.concatenate([apart[:, :-SECTION_AXES], in_plane], axis=1))
    found = np.concatenate(distances)
    # The shares beyond each of the distances add up, at worst.
    each = 1 - (1 - kept) / found.shape[1] if found.shape[1] > 1 else kept
    reaches = np.quantile(found, each, axis=0, method="higher") if len(found) else np.ones(found.shape[1])
    *across, plane = (max(1, int(reach)) for reach in reaches)
    return (*across, *(plane,) * min(SECTION_AXES, len(fields[0].pixel)))
