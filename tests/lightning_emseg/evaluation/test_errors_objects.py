"""Breaks and spurious membranes against hand-made cases and scipy."""

import math

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lightning_emseg.evaluation.errors import (
    PixelOutcome,
    analyse,
    compute_error_codes,
    find_breaks,
    find_spurious_membranes,
)
from lightning_emseg.metrics.boundary.skeleton import count_breaks as counted_breaks
from lightning_emseg.metrics.boundary.skeleton import skeleton
from lightning_emseg.metrics.mosaic_pair import MosaicPair
from tests.support.error_cases import Pixels, broken_membrane, compare, comparisons


def test_gap_is_a_break_of_known_length() -> None:
    analysis = analyse(compare(*broken_membrane()), tolerance_nm=8)
    assert analysis.breaks is not None
    (gap,) = analysis.breaks.found
    # The tolerance closes two pixels at either end of the 20 that are missing.
    assert gap.box_px == ((20, 42), (21, 58))
    assert gap.centre_px == pytest.approx((20, 49.5))
    assert gap.size_px == 16
    assert gap.size_nm == 16 * 16
    assert gap.length_nm == pytest.approx(64)
    assert analysis.breaks.labels.dtype == np.uint32
    np.testing.assert_array_equal(np.argwhere(analysis.breaks.labels == 1), [[20, x] for x in range(42, 58)])
    assert 95 * 4 <= analysis.skeleton_nm <= 101 * 4


def test_false_membrane_is_reported_without_specks() -> None:
    analysis = analyse(compare(*broken_membrane()), tolerance_nm=8)
    (false,) = analysis.spurious.found
    assert false.box_px == ((45, 70), (50, 90))
    assert false.centre_px == pytest.approx((47, 79.5))
    assert (false.size_px, false.size_nm) == (100, 1600)
    assert 60 <= false.length_nm <= 80  # 80 nm long, less what thinning takes off the ends
    assert set(np.unique(analysis.spurious.labels)) == {0, 1}
    with_specks = find_spurious_membranes(analysis.codes, (4, 4), 16)
    assert [one.size_px for one in with_specks.found] == [100, 1]


def test_thin_prediction_is_no_break() -> None:
    truth, _ = broken_membrane()
    predicted = np.zeros_like(truth)
    predicted[19] = 1
    analysis = analyse(compare(truth, predicted), tolerance_nm=4)
    assert analysis.breaks is not None
    assert analysis.breaks.found == analysis.spurious.found == ()
    assert not analysis.breaks.labels.any()


def test_longest_break_comes_first() -> None:
    truth = np.zeros((40, 200), np.uint8)
    truth[10], truth[30] = 1, 1
    predicted = truth.copy()
    for row, first, last in ((10, 20, 40), (10, 100, 180), (30, 5, 45), (30, 100, 109)):
        predicted[row, first:last] = 0
    lines = truth == 1
    found = find_breaks(compute_error_codes(compare(truth, predicted), 0), lines, (4, 4), shortest_nm=40)
    assert [round(gap.length_nm) for gap in found.found] == [320, 160, 80]  # 36 nm is too short
    assert [found.labels[place] for place in ((10, 120), (30, 20), (10, 30), (30, 105), (10, 0))] == [1, 2, 3, 0, 0]


def test_breaks_that_touch_at_a_corner_are_one() -> None:
    truth = np.eye(30, dtype=np.uint8)
    found = find_breaks(compute_error_codes(compare(truth, np.zeros_like(truth)), 0), truth == 1, (4, 4), 0)
    assert len(found.found) == 1


def test_volumes_have_spurious_objects_only() -> None:
    truth, predicted = np.zeros((5, 20, 20), np.uint8), np.zeros((5, 20, 20), np.uint8)
    predicted[1:3, 4:10, 5:12] = 1
    predicted[3, 10, 12] = 1  # touches at a corner
    analysis = analyse(compare(truth, predicted, (30, 4, 4)), tolerance_nm=8)
    assert analysis.breaks is None
    assert math.isnan(analysis.skeleton_nm)
    (one,) = analysis.spurious.found
    assert one.box_px == ((1, 4, 5), (4, 11, 13))
    assert one.size_px == 2 * 6 * 7 + 1
    assert one.size_nm == one.size_px * 480
    assert math.isnan(one.length_nm)


@given(comparisons(), st.sampled_from([0.0, 4.0]), st.sampled_from([0.0, 30.0, 1000.0]))
def test_spurious_membranes_match_scipys_components(comparison: MosaicPair, tolerance: float, smallest: float) -> None:
    codes = compute_error_codes(comparison, tolerance)
    found = find_spurious_membranes(codes, comparison.pixel_size_nm, smallest)
    reference, count = ndi.label(codes == PixelOutcome.FALSE_POSITIVE, structure=np.ones((3,) * codes.ndim))
    pixel = math.prod(comparison.pixel_size_nm)
    expected = []
    for number, box in enumerate(ndi.find_objects(reference), 1):
        size = int((reference == number).sum())
        if size * pixel >= smallest:
            corners = tuple(side.start for side in box), tuple(side.stop for side in box)
            expected.append((size, corners, ndi.center_of_mass(reference == number)))
    assert count >= len(expected) == len(found.found)
    assert sorted((one.size_px, one.box_px) for one in found.found) == sorted(each[:2] for each in expected)
    sizes = [one.size_px for one in found.found]
    assert sizes == sorted(sizes, reverse=True)
    for number, one in enumerate(found.found, 1):
        assert (found.labels == number).sum() == one.size_px
        np.testing.assert_allclose(ndi.center_of_mass(found.labels == number), one.centre_px)
    assert found.labels.max(initial=0) == len(sizes)


@given(arrays.arrays(np.uint8, (8, 9), elements=st.sampled_from([0, 1])), st.integers(0, 2**32 - 1))
def test_breaks_cover_exactly_the_missed_skeleton(truth: Pixels, seed: int) -> None:
    predicted = np.random.default_rng(seed).integers(0, 2, truth.shape, dtype=np.uint8)
    lines = truth == 1
    found = find_breaks(compute_error_codes(compare(truth, predicted), 4), lines, (4, 4), 0)
    near = ndi.binary_dilation(predicted, ndi.generate_binary_structure(2, 1)) if predicted.any() else predicted
    np.testing.assert_array_equal(found.labels > 0, lines & ~near.astype(bool))
    assert len(found.found) == ndi.label(lines & ~near.astype(bool), structure=np.ones((3, 3)))[1]


def test_identical_masks_have_no_errors() -> None:
    truth, _ = broken_membrane()
    analysis = analyse(compare(truth, truth), tolerance_nm=0)
    assert analysis.breaks is not None
    assert analysis.breaks.found == analysis.spurious.found == ()


@given(arrays.arrays(np.uint8, (17, 23), elements=st.sampled_from([0, 1, 1])), st.sampled_from([0.0, 6.0, 15.0]))
def test_break_count_equals_the_metric(truth: Pixels, shortest: float) -> None:
    predicted = np.random.default_rng(int(truth.sum())).choice(np.array([0, 0, 1], np.uint8), truth.shape)
    comparison, lines = compare(truth, predicted), skeleton(truth == 1)
    covered = comparison.distance_to_prediction_nm <= 4
    number, per_mm = counted_breaks(lines, covered, (4, 4), shortest)
    analysis = analyse(comparison, 4)
    assert len(find_breaks(analysis.codes, lines, (4, 4), shortest).found) == number
    if number:
        assert number / analysis.skeleton_nm * 1e6 == pytest.approx(per_mm)


def test_components_match_scipy_in_wide_masks() -> None:
    random = np.random.default_rng(0)
    for width in (201, 202, 203):
        codes = (PixelOutcome.FALSE_POSITIVE * (random.random((150, width)) < 0.3)).astype(np.uint8)
        found = find_spurious_membranes(codes, (4, 4), 0)
        assert len(found.found) == ndi.label(codes, structure=np.ones((3, 3)))[1]


def test_bent_membrane_has_its_skeletons_length() -> None:
    codes = np.zeros((50, 60), np.uint8)
    codes[10, 5:45], codes[10:40, 44] = PixelOutcome.FALSE_POSITIVE, PixelOutcome.FALSE_POSITIVE
    (one,) = find_spurious_membranes(codes, (3, 5), 0).found
    # One pixel may be thinned away at the corner, which a diagonal then cuts.
    assert one.length_nm == pytest.approx(39 * 5 + 29 * 3 + 4, abs=3)
