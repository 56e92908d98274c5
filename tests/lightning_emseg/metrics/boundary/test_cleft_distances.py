"""ADGT, ADF and CREMI score against all pairs of voxels, scipy, and closed forms."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.distance import cdist

from lightning_emseg.metrics.boundary import cleft_scores
from lightning_emseg.metrics.boundary.cleft_distances import CleftDistances
from lightning_emseg.metrics.comparison import Comparison

Mask = NDArray[np.bool_]
CREMI = (40.0, 4.0, 4.0)
SIZES = [CREMI, (4.0, 4.0, 4.0), (3.0, 50.0, 7.0)]
BY_TREE, BY_TRANSFORM = 1.0, -1.0
"""Shares of voxels from which on a transform is made: never and always."""


def row_of(
    truth: Mask,
    predicted: Mask,
    sizes: tuple[float, ...] = CREMI,
    known: Mask | None = None,
    many: float = BY_TREE,
) -> tuple[float, ...]:
    labels = truth.astype(np.uint8) if known is None else np.where(known, truth, 255).astype(np.uint8)
    with mock.patch.object(cleft_scores, "_MANY", many):
        return CleftDistances().row(Comparison(labels, 255 * predicted.astype(np.uint8), 128, sizes))


def by_all_pairs(truth: Mask, predicted: Mask, sizes: tuple[float, ...]) -> tuple[float, float, float]:
    places = [np.argwhere(mask) * np.array(sizes) for mask in (predicted, truth)]
    pairs = cdist(*places)
    adgt, adf = float(pairs.min(axis=1).mean()), float(pairs.min(axis=0).mean())
    return adgt, adf, (adgt + adf) / 2


def blobs(seed: int, share: float, shape: tuple[int, ...] = (12, 60, 70)) -> Mask:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (1, 3, 3))
    found: Mask = field > np.quantile(field, 1 - share)
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mask, Mask, tuple[float, ...]]:
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    elements = st.sampled_from(draw(st.sampled_from([[False] * 6 + [True], [False, True], [False] + [True] * 6])))
    truth, predicted = (draw(hnp.arrays(np.bool_, shape, elements=elements)) for _ in range(2))
    for mask in (truth, predicted):
        mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return truth, predicted, draw(st.sampled_from(SIZES))


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from([BY_TREE, BY_TRANSFORM]))
def test_equals_all_pairs_of_voxels(case: tuple[Mask, Mask, tuple[float, ...]], many: float) -> None:
    truth, predicted, sizes = case
    assert row_of(truth, predicted, sizes, many=many) == pytest.approx(by_all_pairs(truth, predicted, sizes), rel=1e-5)


@settings(max_examples=80, deadline=None)
@given(cases(), st.integers(0, 1000), st.sampled_from([BY_TREE, BY_TRANSFORM]))
def test_ignored_voxels_belong_to_neither(case: tuple[Mask, Mask, tuple[float, ...]], seed: int, many: float) -> None:
    truth, predicted, sizes = case
    known = np.random.default_rng(seed).random(truth.shape) < 0.7
    known.flat[[np.flatnonzero(truth)[0], np.flatnonzero(predicted)[0]]] = True
    expected = by_all_pairs(truth & known, predicted & known, sizes)
    assert row_of(truth, predicted, sizes, known, many) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_swapping_truth_and_prediction_swaps_the_two_distances(case: tuple[Mask, Mask, tuple[float, ...]]) -> None:
    truth, predicted, sizes = case
    adgt, adf, score = row_of(truth, predicted, sizes)
    assert row_of(predicted, truth, sizes) == pytest.approx((adf, adgt, score))


@pytest.mark.parametrize("many", [BY_TREE, BY_TRANSFORM])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("true_share", "predicted_share"), [(0.01, 0.02), (0.05, 0.001), (0.3, 0.6)])
def test_equals_means_over_scipys_transform(
    true_share: float, predicted_share: float, sizes: tuple[float, ...], many: float
) -> None:
    truth, predicted = blobs(0, true_share), blobs(1, predicted_share)
    # As cremi_python computes its "mean"s.
    adgt = distance_transform_edt(~truth, sampling=sizes)[predicted].mean()
    adf = distance_transform_edt(~predicted, sampling=sizes)[truth].mean()
    found = row_of(truth, predicted, sizes, many=many)
    assert found == pytest.approx((adgt, adf, (adgt + adf) / 2), rel=1e-6)


def test_both_ways_are_taken_by_themselves() -> None:
    truth, few, many = blobs(2, 0.05), blobs(3, 0.005), blobs(4, 0.4)
    for predicted in (few, many):
        rows = [row_of(truth, predicted, many=share) for share in (BY_TREE, BY_TRANSFORM, cleft_scores._MANY)]
        assert rows[1:] == [pytest.approx(rows[0], rel=1e-6)] * 2


def test_a_section_counts_ten_pixels_of_a_plane() -> None:
    truth, predicted = np.zeros((5, 20, 20), bool), np.zeros((5, 20, 20), bool)
    truth[1, 3, 3] = predicted[1, 3, 3] = predicted[2, 3, 3] = predicted[1, 3, 13] = True
    assert row_of(truth, predicted) == pytest.approx(((0 + 40 + 40) / 3, 0, 40 / 3))


def test_a_cleft_moved_along_itself_is_only_as_far_off_as_its_ends() -> None:
    truth, predicted = np.zeros((1, 5, 40), bool), np.zeros((1, 5, 40), bool)
    truth[0, 2, 5:25], predicted[0, 2, 8:28] = True, True
    expected = 4 * (1 + 2 + 3) / 20
    assert row_of(truth, predicted) == pytest.approx((expected, expected, expected))


def test_equal_masks_are_nowhere_apart() -> None:
    mask = blobs(5, 0.1)
    assert row_of(mask, mask) == (0, 0, 0)


@pytest.mark.parametrize("many", [BY_TREE, BY_TRANSFORM])
def test_conventions_for_empty_masks(many: float) -> None:
    empty, some = np.zeros((3, 8, 8), bool), np.ones((3, 8, 8), bool)
    np.testing.assert_array_equal(row_of(some, empty, many=many), (math.nan, math.inf, math.inf))
    np.testing.assert_array_equal(row_of(empty, some, many=many), (math.inf, math.nan, math.inf))
    np.testing.assert_array_equal(row_of(empty, empty, many=many), (math.nan,) * 3)


def test_planes_can_be_scored() -> None:
    truth, predicted = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[2, 2], predicted[5, 6] = True, True
    assert row_of(truth, predicted, (4.0, 4.0)) == pytest.approx((20, 20, 20))


def test_is_named_by_its_columns() -> None:
    truth, predicted = blobs(6, 0.02), blobs(7, 0.02)
    comparison = Comparison(truth.astype(np.uint8), 255 * predicted.astype(np.uint8), 128, CREMI)
    metric = CleftDistances(mosaics=2)
    metric.update(comparison, 1)
    named = metric.named(comparison)
    assert list(named) == ["adgt_nm", "adf_nm", "cremi_score_nm"]
    assert metric.compute()[1].tolist() == list(named.values())
    assert metric.compute()[0].isnan().all()
