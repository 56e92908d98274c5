"""ADGT, ADF and CREMI score against all pairs of voxels, scipy, and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.distance import cdist

from lightning_emseg.metrics.boundary.distances import mean_distance
from lightning_emseg.metrics.classes import CleftDistances
from lightning_emseg.metrics.mosaic_pair import MosaicPair

Mask = NDArray[np.bool_]
CREMI = (40.0, 4.0, 4.0)
SIZES = [CREMI, (4.0, 4.0, 4.0), (3.0, 50.0, 7.0)]


def row_of(
    truth: Mask,
    predicted: Mask,
    sizes: tuple[float, ...] = CREMI,
    known: Mask | None = None,
    room: bool = False,
) -> tuple[float, ...]:
    """A row of scores; with ``room``, so much empty space beside the masks that few voxels lie in them.

    Few voxels are looked up in a search tree, and many, as in masks of up to 5 × 5 × 3, by a distance transform.
    """
    labels = truth.astype(np.uint8) if known is None else np.where(known, truth, 255).astype(np.uint8)
    probability = 255 * predicted.astype(np.uint8)
    if room:
        beside = [(0, 0)] * (truth.ndim - 1) + [(0, 100 * truth.shape[-1])]
        labels, probability = np.pad(labels, beside), np.pad(probability, beside)
    return CleftDistances().row(MosaicPair(labels, probability, 128, sizes))


def by_all_pairs(truth: Mask, predicted: Mask, sizes: tuple[float, ...]) -> tuple[float, float, float]:
    places = [np.argwhere(mask) * np.array(sizes) for mask in (predicted, truth)]
    pairs = cdist(*places)
    adgt, adf = float(pairs.min(axis=1).mean()), float(pairs.min(axis=0).mean())
    return adgt, adf, (adgt + adf) / 2


def blobs(seed: int, share: float, shape: tuple[int, ...] = (10, 40, 50)) -> Mask:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (1, 3, 3))
    found: Mask = field > np.quantile(field, 1 - share)
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Mask, Mask, tuple[float, ...]]:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)))
    elements = st.sampled_from(draw(st.sampled_from([[False] * 6 + [True], [False, True], [False] + [True] * 6])))
    truth, predicted = (draw(hnp.arrays(np.bool_, shape, elements=elements)) for _ in range(2))
    for mask in (truth, predicted):
        mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return truth, predicted, draw(st.sampled_from(SIZES))


@pytest.mark.parametrize("room", [False, True])
@example(case=(blobs(0, 0.2, (5, 9, 8)), blobs(1, 0.3, (5, 9, 8)), CREMI))
@given(case=cases())
def test_equals_all_pairs_of_voxels(case: tuple[Mask, Mask, tuple[float, ...]], room: bool) -> None:
    truth, predicted, sizes = case
    assert row_of(truth, predicted, sizes, room=room) == pytest.approx(by_all_pairs(truth, predicted, sizes), rel=1e-5)


@pytest.mark.parametrize("room", [False, True])
@given(case=cases(), seed=st.integers(0, 1000))
def test_ignored_voxels_belong_to_neither(case: tuple[Mask, Mask, tuple[float, ...]], seed: int, room: bool) -> None:
    truth, predicted, sizes = case
    known = np.random.default_rng(seed).random(truth.shape) < 0.7
    known.flat[[np.flatnonzero(truth)[0], np.flatnonzero(predicted)[0]]] = True
    expected = by_all_pairs(truth & known, predicted & known, sizes)
    assert row_of(truth, predicted, sizes, known, room) == pytest.approx(expected, rel=1e-5)


@given(cases())
def test_swapping_truth_and_prediction_swaps_the_two_distances(case: tuple[Mask, Mask, tuple[float, ...]]) -> None:
    truth, predicted, sizes = case
    adgt, adf, score = row_of(truth, predicted, sizes)
    assert row_of(predicted, truth, sizes) == pytest.approx((adf, adgt, score))


@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("true_share", "predicted_share"), [(0.01, 0.02), (0.05, 0.001), (0.3, 0.6)])
def test_equals_means_over_scipys_transform(
    true_share: float, predicted_share: float, sizes: tuple[float, ...], room: bool
) -> None:
    truth, predicted = blobs(0, true_share), blobs(1, predicted_share)
    # As cremi_python computes its "mean"s.
    adgt = distance_transform_edt(~truth, sampling=sizes)[predicted].mean()
    adf = distance_transform_edt(~predicted, sampling=sizes)[truth].mean()
    found = row_of(truth, predicted, sizes, room=room)
    assert found == pytest.approx((adgt, adf, (adgt + adf) / 2), rel=1e-6)


@pytest.mark.parametrize(("outside", "transforms"), [(100, 0), (101, 1)])
def test_few_voxels_outside_need_no_transform(outside: int, transforms: int) -> None:
    mask, other = np.zeros((2, 50, 100), bool), np.zeros((2, 50, 100), bool)
    other[0, 10] = True
    mask.flat[1000 : 1100 + outside] = True  # all of the other and the pixels behind it
    distances: NDArray[np.float32] = distance_transform_edt(~other, sampling=CREMI).astype(np.float32)
    made = []

    def transform() -> NDArray[np.float32]:
        made.append(distances)
        return distances

    assert mean_distance(mask, other, CREMI, transform) == pytest.approx(distances[mask].mean(), rel=1e-6)
    assert len(made) == transforms


def test_a_section_counts_ten_pixels_of_a_plane() -> None:
    truth, predicted = np.zeros((5, 20, 20), bool), np.zeros((5, 20, 20), bool)
    truth[1, 3, 3] = predicted[1, 3, 3] = predicted[2, 3, 3] = predicted[1, 3, 13] = True
    assert row_of(truth, predicted) == pytest.approx(((0 + 40 + 40) / 3, 0, 40 / 3))


def test_shift_along_a_cleft_counts_its_ends_only() -> None:
    truth, predicted = np.zeros((1, 5, 40), bool), np.zeros((1, 5, 40), bool)
    truth[0, 2, 5:25], predicted[0, 2, 8:28] = True, True
    expected = 4 * (1 + 2 + 3) / 20
    assert row_of(truth, predicted) == pytest.approx((expected, expected, expected))


def test_equal_masks_are_nowhere_apart() -> None:
    mask = blobs(5, 0.1)
    assert row_of(mask, mask) == (0, 0, 0)


@pytest.mark.parametrize("room", [False, True])
def test_conventions_for_empty_masks(room: bool) -> None:
    empty, some = np.zeros((3, 8, 8), bool), np.ones((3, 8, 8), bool)
    np.testing.assert_array_equal(row_of(some, empty, room=room), (math.nan, math.inf, math.inf))
    np.testing.assert_array_equal(row_of(empty, some, room=room), (math.inf, math.nan, math.inf))
    np.testing.assert_array_equal(row_of(empty, empty, room=room), (math.nan,) * 3)


def test_planes_can_be_scored() -> None:
    truth, predicted = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    truth[2, 2], predicted[5, 6] = True, True
    assert row_of(truth, predicted, (4.0, 4.0)) == pytest.approx((20, 20, 20))


def test_is_named_by_its_columns() -> None:
    truth, predicted = blobs(6, 0.02), blobs(7, 0.02)
    comparison = MosaicPair(truth.astype(np.uint8), 255 * predicted.astype(np.uint8), 128, CREMI)
    metric = CleftDistances()
    metric.update(255 * predicted.astype(np.uint8), truth, CREMI)
    named = dict(zip(metric.columns, metric.row(comparison), strict=True))
    assert list(named) == ["adgt_nm", "adf_nm", "cremi_score_nm"]
    assert metric.compute().tolist() == list(named.values())
