"""Rand scores against scikit-image, against all pairs of pixels and against what they must not depend on."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as reference

from lightning_emseg.metrics.segmentation.contingency import SplitMerge, contingency
from lightning_emseg.metrics.segmentation.scores import (
    AdaptedRandError,
    VariationOfInformationScore,
    adapted_rand,
    v_info,
    v_rand,
    variation_of_information,
)
from tests.support.label_images import Labels, rearranged, segmentations


def v_rand_of(truth: Labels, predicted: Labels) -> SplitMerge:
    return v_rand(contingency(truth, predicted))


def adapted_rand_of(truth: Labels, predicted: Labels) -> AdaptedRandError:
    return adapted_rand(contingency(truth, predicted))


def of_pairs(truth: Labels, predicted: Labels, itself: bool) -> tuple[int, int, int]:
    """Ordered pairs of pixels of true segments in one segment of both, of the truth, of the prediction."""
    used = truth.ravel() != 0
    pixels = list(enumerate(zip(truth.ravel()[used].tolist(), predicted.ravel()[used].tolist(), strict=True)))
    both = same_truth = same_predicted = 0
    for (i, (t, p)), (j, (u, q)) in itertools.product(pixels, repeat=2):
        if i == j and not itself:
            continue
        one_predicted = p == q and (p != 0 or not itself or i == j)
        both += t == u and one_predicted
        same_truth += t == u
        same_predicted += one_predicted
    return both, same_truth, same_predicted


@given(segmentations())
def test_v_rand_counts_pairs_of_pixels(pair: tuple[Labels, Labels]) -> None:
    both, truth, predicted = of_pairs(*pair, itself=True)
    found = v_rand_of(*pair)
    assert found.split == pytest.approx(both / truth)
    assert found.merge == pytest.approx(both / predicted)
    assert found.f == pytest.approx(2 / (1 / found.split + 1 / found.merge))


@given(segmentations())
def test_adapted_rand_counts_pairs_of_different_pixels(pair: tuple[Labels, Labels]) -> None:
    both, truth, predicted = of_pairs(*pair, itself=False)
    found = adapted_rand_of(*pair)
    assert found.recall == pytest.approx(both / truth if truth else 1)
    assert found.precision == pytest.approx(both / predicted if predicted else 1)
    assert found.error == pytest.approx(1 - 2 * both / (truth + predicted) if truth + predicted else 0)


@pytest.mark.parametrize("shape", [(60, 80), (7, 20, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_adapted_rand_is_that_of_scikit_image(seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 30, shape), random.integers(0, 12, shape)
    predicted = np.where(random.random(shape) < 0.6, truth, predicted)
    error, first, second = adapted_rand_error(truth, predicted)
    found = adapted_rand_of(truth, predicted)
    assert found.error == pytest.approx(error, abs=1e-12)
    # Which is which differs from what scikit-image documents; the hand-made cases below decide.
    assert sorted([found.precision, found.recall]) == pytest.approx(sorted([first, second]), abs=1e-12)


def test_splits_lower_split_and_recall_alone() -> None:
    truth, predicted = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert v_rand_of(truth, predicted) == SplitMerge(f=2 * 8 / (16 + 8), split=0.5, merge=1)
    assert adapted_rand_of(truth, predicted) == AdaptedRandError(error=0.5, precision=1, recall=4 / 12)


def test_mergers_lower_merge_and_precision_alone() -> None:
    truth, predicted = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    assert v_rand_of(truth, predicted) == SplitMerge(f=2 * 8 / (16 + 8), split=1, merge=0.5)
    assert adapted_rand_of(truth, predicted) == AdaptedRandError(error=0.5, precision=4 / 12, recall=1)


def test_v_rand_counts_predicted_border_pixels_as_segments() -> None:
    truth = np.array([1, 1, 1, 1, 0])
    assert v_rand_of(truth, np.array([7, 7, 0, 0, 0])) == v_rand_of(truth, np.array([7, 7, 8, 9, 0]))
    assert adapted_rand_of(truth, np.array([7, 7, 0, 0, 0])) == adapted_rand_of(truth, np.array([7, 7, 8, 8, 0]))


@given(segmentations(), st.integers(0, 2**32 - 1))
def test_segment_numbers_and_pixel_order_do_not_matter(pair: tuple[Labels, Labels], seed: int) -> None:
    other = rearranged(pair, seed)
    assert v_rand_of(*other) == v_rand_of(*pair)
    assert adapted_rand_of(*other) == adapted_rand_of(*pair)


@given(segmentations(), st.integers(0, 4))
def test_prediction_on_true_background_does_not_matter(pair: tuple[Labels, Labels], label: int) -> None:
    truth, predicted = pair
    other = np.where(truth == 0, label, predicted)
    assert v_rand_of(truth, other) == v_rand_of(truth, predicted)
    assert adapted_rand_of(truth, other) == adapted_rand_of(truth, predicted)


@given(segmentations())
def test_identical_segmentations_are_without_error(pair: tuple[Labels, Labels]) -> None:
    truth, _ = pair
    assert v_rand_of(truth, truth) == SplitMerge(1, 1, 1)
    assert adapted_rand_of(truth, truth) == AdaptedRandError(0, 1, 1)


def test_prediction_without_any_segment_is_all_splits() -> None:
    truth, nothing = np.array([1, 1, 2, 2]), np.zeros(4, np.int64)
    assert v_rand_of(truth, nothing) == SplitMerge(f=2 * 4 / (8 + 4), split=0.5, merge=1)


def test_truth_without_segments_has_no_score() -> None:
    nothing, predicted = np.zeros(4, np.int64), np.array([1, 1, 2, 2])
    assert all(map(math.isnan, v_rand_of(nothing, predicted)._asdict().values()))
    assert all(map(math.isnan, adapted_rand_of(nothing, predicted)._asdict().values()))


def v_info_of(truth: Labels, predicted: Labels) -> SplitMerge:
    return v_info(contingency(truth, predicted))


def voi_of(truth: Labels, predicted: Labels) -> VariationOfInformationScore:
    return variation_of_information(contingency(truth, predicted))


def entropy(values: list[object]) -> float:
    return -sum(count / len(values) * math.log2(count / len(values)) for count in Counter(values).values())


def entropies(truth: Labels, predicted: Labels, singles: bool) -> tuple[float, float, float]:
    """H(T), H(S) and H(S, T) over pixels of true segments; pixels of predicted 0 may be segments of their own."""
    used = truth.ravel() != 0
    true: list[object] = truth.ravel()[used].tolist()
    found: list[object] = [
        ("alone", index) if singles and label == 0 else label
        for index, label in enumerate(predicted.ravel()[used].tolist())
    ]
    return entropy(true), entropy(found), entropy(list(zip(true, found, strict=True)))


@given(segmentations())
def test_v_info_is_mutual_information_over_entropies(pair: tuple[Labels, Labels]) -> None:
    truth, predicted, joint = entropies(*pair, singles=True)
    shared = truth + predicted - joint
    found = v_info_of(*pair)
    assert found.split == pytest.approx(shared / predicted if predicted else 1, abs=1e-9)
    assert found.merge == pytest.approx(shared / truth if truth else 1, abs=1e-9)
    assert found.f == pytest.approx(2 * shared / (truth + predicted) if truth + predicted else 1, abs=1e-9)
    assert 0 <= min(found) <= max(found) <= 1


@given(segmentations())
def test_voi_is_the_sum_of_conditional_entropies(pair: tuple[Labels, Labels]) -> None:
    truth, predicted, joint = entropies(*pair, singles=False)
    found = voi_of(*pair)
    assert found.split == pytest.approx(joint - truth, abs=1e-9)
    assert found.merge == pytest.approx(joint - predicted, abs=1e-9)
    assert found.total == found.split + found.merge


@pytest.mark.parametrize("shape", [(60, 80), (7, 20, 30)])
@pytest.mark.parametrize("seed", range(3))
def test_variation_of_information_is_that_of_scikit_image(seed: int, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 30, shape), random.integers(0, 12, shape)
    split, merge = reference(truth, predicted, ignore_labels=[0])
    found = voi_of(truth, predicted)
    assert (found.split, found.merge) == pytest.approx((split, merge), abs=1e-10)


def test_halving_a_segment_costs_one_bit_of_split() -> None:
    truth, predicted = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    assert voi_of(truth, predicted) == (1, 1, 0)
    assert v_info_of(truth, predicted) == SplitMerge(f=0, split=0, merge=1)


def test_merging_two_segments_costs_one_bit_of_merge() -> None:
    truth, predicted = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    assert voi_of(truth, predicted) == (1, 0, 1)
    assert v_info_of(truth, predicted) == SplitMerge(f=0, split=1, merge=0)


def test_half_of_the_information_is_found() -> None:
    truth, predicted = np.array([1, 1, 2, 2, 3, 3, 4, 4]), np.array([1, 1, 1, 1, 2, 2, 2, 2])
    assert v_info_of(truth, predicted)._asdict() == pytest.approx({"f": 2 / 3, "split": 1, "merge": 0.5})


def test_v_info_counts_predicted_border_pixels_as_segments() -> None:
    truth = np.array([1, 1, 1, 1, 2, 2, 0])
    border = np.array([7, 7, 0, 0, 3, 0, 0])
    assert v_info_of(truth, border) == v_info_of(truth, np.array([7, 7, 8, 9, 3, 10, 0]))
    assert voi_of(truth, border) == voi_of(truth, np.array([7, 7, 8, 8, 3, 8, 0]))


@given(segmentations(), st.integers(0, 2**32 - 1))
def test_information_ignores_segment_numbers_and_pixel_order(pair: tuple[Labels, Labels], seed: int) -> None:
    other = rearranged(pair, seed)
    assert v_info_of(*other)._asdict() == pytest.approx(v_info_of(*pair)._asdict(), abs=1e-12)
    assert voi_of(*other)._asdict() == pytest.approx(voi_of(*pair)._asdict(), abs=1e-12)


@given(segmentations())
def test_identical_segmentations_lose_no_information(pair: tuple[Labels, Labels]) -> None:
    truth, _ = pair
    assert v_info_of(truth, truth) == SplitMerge(1, 1, 1)
    assert voi_of(truth, truth) == (0, 0, 0)


def test_truth_without_segments_has_no_information() -> None:
    nothing, predicted = np.zeros(4, np.int64), np.array([1, 1, 2, 2])
    assert all(map(math.isnan, v_info_of(nothing, predicted)._asdict().values()))
    assert math.isnan(voi_of(nothing, predicted).total)
