"""Error maps against brute force, and their reduction."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from data_modules.errors import UserError
from lightning_emseg.evaluation.errors import (
    PixelOutcome,
    compute_error_codes,
    count_outcomes,
    reduce_codes,
    worst_regions,
)
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support.error_cases import broken_membrane, compare, comparisons

CODES = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5, 255])


def is_near(mask: NDArray[np.bool_], pixel_size_nm: tuple[float, ...], tolerance_nm: float) -> NDArray[np.bool_]:
    """Whether a pixel of the mask is within the tolerance, by the distances between all pixels."""
    places = np.indices(mask.shape).reshape(mask.ndim, -1).T * np.array(pixel_size_nm)
    if not mask.any():
        return np.zeros(mask.shape, bool)
    nearest: NDArray[np.float64] = cdist(places, places[mask.ravel()]).min(axis=1)
    return (nearest <= tolerance_nm + 1e-9).reshape(mask.shape)


@given(comparisons(), st.sampled_from([0.0, 2.5, 4.0, 5.6, 10.0, 60.0]))
def test_outcomes_match_all_pairwise_distances(comparison: MosaicPair, tolerance: float) -> None:
    known = comparison.labels != 255
    truth, predicted = comparison.labels == 1, (comparison.probability >= 100) & known
    near_truth = is_near(truth, comparison.pixel_size_nm, tolerance)
    near_prediction = is_near(predicted, comparison.pixel_size_nm, tolerance)
    expected = np.full(truth.shape, PixelOutcome.FALSE_NEGATIVE)
    expected[truth & near_prediction] = PixelOutcome.TOLERATED_FALSE_NEGATIVE
    expected[predicted & ~truth] = PixelOutcome.FALSE_POSITIVE
    expected[predicted & ~truth & near_truth] = PixelOutcome.TOLERATED_FALSE_POSITIVE
    expected[truth & predicted] = PixelOutcome.TRUE_POSITIVE
    expected[~truth & ~predicted] = PixelOutcome.TRUE_NEGATIVE
    expected[~known] = 255
    codes = compute_error_codes(comparison, tolerance)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, expected)
    counts = count_outcomes(codes)
    assert sum(counts.values()) == known.sum()
    assert counts[PixelOutcome.TRUE_POSITIVE] == (truth & predicted).sum()


def test_tolerance_separates_thickness_from_real_errors() -> None:
    counts = count_outcomes(compute_error_codes(compare(*broken_membrane()), tolerance_nm=8))
    assert counts[PixelOutcome.TOLERATED_FALSE_POSITIVE] == 80
    assert counts[PixelOutcome.TOLERATED_FALSE_NEGATIVE] == 2 * 2 * 3  # two columns at either end of the gap
    assert counts[PixelOutcome.FALSE_NEGATIVE] == 16 * 3
    assert counts[PixelOutcome.FALSE_POSITIVE] == 5 * 20 + 1


def test_zero_tolerance_makes_every_error_real() -> None:
    counts = count_outcomes(compute_error_codes(compare(*broken_membrane()), tolerance_nm=0))
    assert counts[PixelOutcome.TOLERATED_FALSE_POSITIVE] == counts[PixelOutcome.TOLERATED_FALSE_NEGATIVE] == 0


def test_empty_prediction_misses_all_membrane() -> None:
    truth, _ = broken_membrane()
    codes = compute_error_codes(compare(truth, np.zeros_like(truth)), tolerance_nm=1e6)
    np.testing.assert_array_equal(codes == PixelOutcome.FALSE_NEGATIVE, truth == 1)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_invalid_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(UserError, match="tolerance_nm is"):
        compute_error_codes(compare(*broken_membrane()), tolerance)


def shown_block(block: NDArray[np.uint8]) -> int:
    """A reduced pixel, by the definition."""
    for outcome in (PixelOutcome.FALSE_NEGATIVE, PixelOutcome.FALSE_POSITIVE):
        if (block == outcome).any():
            return outcome
    known = block[block != 255]
    return max(np.unique(known), key=lambda value: (np.sum(known == value), value)) if known.size else 255


@given(arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 11)] * 2), elements=CODES), st.integers(1, 6))
def test_reduction_follows_its_definition(codes: NDArray[np.uint8], step: int) -> None:
    small = reduce_codes(codes, step)
    assert small.shape == tuple(-(-side // step) for side in codes.shape)
    for y, x in np.ndindex(small.shape):
        assert small[y, x] == shown_block(codes[y * step : (y + 1) * step, x * step : (x + 1) * step])


def test_reduction_of_a_volume_leaves_its_sections_apart() -> None:
    codes = np.random.default_rng(0).choice(np.array([0, 1, 2, 3, 4, 5, 255], np.uint8), (3, 10, 11))
    np.testing.assert_array_equal(reduce_codes(codes, 3), np.stack([reduce_codes(section, 3) for section in codes]))


def test_reduction_keeps_single_pixel_errors() -> None:
    codes = np.zeros((700, 700), np.uint8)
    codes[:, 3], codes[350, 350] = PixelOutcome.TRUE_POSITIVE, PixelOutcome.FALSE_POSITIVE
    small = reduce_codes(codes, 7)
    assert small.sum() == PixelOutcome.FALSE_POSITIVE
    assert small[50, 50] == PixelOutcome.FALSE_POSITIVE


ALL_CODES = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 255])


@given(
    arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 24)] * 2), elements=ALL_CODES),
    st.integers(1, 10),
    st.integers(1, 5),
)
def test_each_region_is_worst_of_the_remaining(codes: NDArray[np.uint8], side: int, most: int) -> None:
    regions = worst_regions(codes, side, most)
    real = (codes == PixelOutcome.FALSE_POSITIVE) | (codes == PixelOutcome.FALSE_NEGATIVE)
    step = -(-side // 8)
    size = tuple(min(side, extent) for extent in codes.shape)
    starts = [
        sorted({*range(0, extent - part + 1, step), extent - part})
        for extent, part in zip(codes.shape, size, strict=True)
    ]
    free = {(y, x): int(real[y : y + size[0], x : x + size[1]].sum()) for y, x in itertools.product(*starts)}
    for region in regions:
        assert region.size == size
        assert region.error_px == free[region.origin] == real[region.slices].sum() == max(free.values()) > 0
        y, x = region.origin
        free = {
            place: errors
            for place, errors in free.items()
            if abs(place[0] - y) >= size[0] or abs(place[1] - x) >= size[1]
        }
    assert len(regions) == most or max(free.values(), default=0) == 0


def test_clusters_are_found_in_large_maps() -> None:
    codes = np.full((3000, 2500), PixelOutcome.TOLERATED_FALSE_NEGATIVE, np.uint8)
    codes[1700:1750, 640:700] = PixelOutcome.FALSE_NEGATIVE
    codes[20:30, 2480:] = PixelOutcome.FALSE_POSITIVE
    first, second = worst_regions(codes, side=256, most=6)
    assert (first.error_px, second.error_px) == (50 * 60, 10 * 20)
    assert first.origin[0] <= 1700
    assert first.origin[0] + 256 >= 1750
    assert second.slices[1].stop == 2500


def test_map_without_real_errors_has_no_region() -> None:
    assert worst_regions(np.full((50, 50), PixelOutcome.TOLERATED_FALSE_POSITIVE, np.uint8)) == []


def test_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="windows of a plane"):
        worst_regions(np.zeros((3, 4, 5), np.uint8))
