"""ASSD and HD95 against MONAI, all pairs of pixels, and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from lightning_emseg.metrics.boundary.distances import surface
from lightning_emseg.metrics.classes import SurfaceDistances
from lightning_emseg.metrics.mosaic_pair import MosaicPair

Mask = NDArray[np.bool_]
Sizes = tuple[float, ...]

SIZES: dict[int, list[Sizes]] = {2: [(1.0, 1.0), (2.18, 2.18), (4.0, 6.5)], 3: [(40.0, 4.0, 4.0), (6.0, 6.0, 5.0)]}


def row_of(truth: Mask, predicted: Mask, sizes: Sizes, known: Mask | None = None) -> tuple[float, ...]:
    labels = truth.astype(np.uint8) if known is None else np.where(known, truth, 255).astype(np.uint8)
    return SurfaceDistances().row(MosaicPair(labels, 255 * predicted.astype(np.uint8), 128, sizes))


def surface_points(mask: Mask, background: Mask) -> list[tuple[int, ...]]:
    """Pixels with a face neighbour in the background or outside of the image, one after the other."""
    found = []
    for place in np.argwhere(mask).tolist():
        neighbours = [
            tuple(at + step * (axis == number) for number, at in enumerate(place))
            for axis in range(mask.ndim)
            for step in (-1, 1)
        ]
        inside = [all(0 <= at < side for at, side in zip(near, mask.shape, strict=True)) for near in neighbours]
        if not all(inside) or any(background[near] for near in neighbours):
            found.append(tuple(place))
    return found


def by_all_pairs(truth: Mask, predicted: Mask, sizes: Sizes, known: Mask | None = None) -> tuple[float, float]:
    known = np.ones_like(truth) if known is None else known
    masks = truth & known, predicted & known
    directed = []
    for mask, other in (masks, masks[::-1]):
        measured = np.array(surface_points(mask, known & ~mask), float).reshape(-1, mask.ndim)
        targets = np.array(surface_points(other, ~other), float)
        directed.append(cdist(measured * np.array(sizes), targets * np.array(sizes)).min(axis=1))
    assd = np.concatenate(directed).mean() if sum(map(len, directed)) else math.nan
    return float(assd), max((float(np.percentile(part, 95)) for part in directed if part.size), default=math.nan)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mask, Mask, Sizes]:
    dimensions = draw(st.sampled_from([2, 3]))
    shape = draw(hnp.array_shapes(min_dims=dimensions, max_dims=dimensions, max_side=16 if dimensions == 2 else 8))
    # Dense masks have pixels deep inside each other.
    elements = draw(st.sampled_from([[False, True], [False, True, True, True, True, True, True]]))
    truth, predicted = (draw(hnp.arrays(np.bool_, shape, elements=st.sampled_from(elements))) for _ in range(2))
    truth.flat[draw(st.integers(0, truth.size - 1))] = predicted.flat[draw(st.integers(0, truth.size - 1))] = True
    return truth, predicted, draw(st.sampled_from(SIZES[dimensions]))


def random_case(seed: int, shape: tuple[int, ...], share: float, sizes: Sizes) -> tuple[Mask, Mask, Sizes]:
    random = np.random.default_rng(seed)
    return random.random(shape) < share, random.random(shape) < share, sizes


@example(random_case(0, (20, 24), 0.9, (4.0, 6.5)))
@example(random_case(1, (4, 9, 10), 0.9, (40.0, 4.0, 4.0)))
@given(cases())
def test_equals_all_pairs_of_surface_pixels(case: tuple[Mask, Mask, Sizes]) -> None:
    truth, predicted, sizes = case
    assert row_of(truth, predicted, sizes) == pytest.approx(by_all_pairs(truth, predicted, sizes), rel=1e-5)


@example(random_case(2, (20, 24), 0.8, (4.0, 6.5)), 0)
@example(random_case(3, (4, 9, 10), 0.8, (40.0, 4.0, 4.0)), 1)
@given(cases(), st.integers(0, 2**16))
def test_equals_all_pairs_where_parts_are_ignored(case: tuple[Mask, Mask, Sizes], seed: int) -> None:
    truth, predicted, sizes = case
    known = np.random.default_rng(seed).random(truth.shape) < 0.8
    assume((truth & known).any() and (predicted & known).any())
    expected = by_all_pairs(truth, predicted, sizes, known)
    assert row_of(truth, predicted, sizes, known) == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", SIZES[2] + SIZES[3])
def test_equals_monai(seed: int, sizes: Sizes) -> None:
    random = np.random.default_rng(seed)
    shape = (40, 50) if len(sizes) == 2 else (7, 20, 22)
    truth, predicted = random.random(shape) < 0.6, random.random(shape) < 0.3
    images = [torch.from_numpy(mask)[None, None] for mask in (predicted, truth)]
    spacing = list(sizes)
    assd = compute_average_surface_distance(*images, include_background=True, symmetric=True, spacing=spacing).item()
    hd95 = compute_hausdorff_distance(*images, include_background=True, percentile=95, spacing=spacing).item()
    assert row_of(truth, predicted, sizes) == pytest.approx((assd, hd95), rel=1e-5)


@pytest.mark.parametrize("thickness", [3, 12, 40, 90])
def test_surfaces_deep_inside_are_found_at_any_depth(thickness: int) -> None:
    # A line in the middle of a band: all of the line is half of the band from either side, and the other way round.
    truth, predicted = np.zeros((201, 30), bool), np.zeros((201, 30), bool)
    truth[100], predicted[100 - thickness : 101 + thickness] = True, True
    size = (2.0, 2.0)
    assert row_of(truth, predicted, size) == pytest.approx(by_all_pairs(truth, predicted, size), rel=1e-5)


def test_lines_some_pixels_apart_are_that_far_apart() -> None:
    truth, predicted = np.zeros((50, 60), bool), np.zeros((50, 60), bool)
    truth[10], predicted[17] = True, True
    assert row_of(truth, predicted, (2.18, 4.0)) == pytest.approx((7 * 2.18, 7 * 2.18), rel=1e-6)


def test_one_stray_pixel_leaves_the_95th_percentile() -> None:
    truth = np.zeros((100, 100), bool)
    truth[10] = True
    predicted = truth.copy()
    predicted[90, 50] = True
    assd, hd95 = row_of(truth, predicted, (1.0, 1.0))
    assert assd == pytest.approx(80 / 201, rel=1e-6)
    assert hd95 == 0


def test_equal_masks_are_nowhere_apart() -> None:
    mask = np.random.default_rng(0).random((6, 30, 30)) < 0.4
    assert row_of(mask, mask, (40.0, 4.0, 4.0)) == (0, 0)


def test_conventions_for_empty_masks() -> None:
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    assert row_of(empty, full, (1.0, 1.0)) == (math.inf, math.inf)
    assert row_of(full, empty, (1.0, 1.0)) == (math.inf, math.inf)
    assert all(math.isnan(value) for value in row_of(empty, empty, (1.0, 1.0)))


def test_ignored_pixels_count_nowhere() -> None:
    random = np.random.default_rng(1)
    truth = random.choice(np.array([0, 0, 1, 255], np.uint8), (50, 50))
    probability = random.integers(0, 256, (50, 50), dtype=np.uint8)
    rows = []
    for value in (0, 255):
        probability[truth == 255] = value
        rows.append(SurfaceDistances().row(MosaicPair(truth, probability.copy(), 200, (4.0, 4.0))))
    assert rows[0] == rows[1]


@example(np.random.default_rng(0).random((30, 40)) < 0.9)
@example(np.random.default_rng(0).random((6, 7, 8)) < 0.95)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_surface_is_the_mask_without_its_erosion(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(surface(mask), mask & ~binary_erosion(mask))
