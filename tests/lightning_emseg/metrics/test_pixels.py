"""Histograms of probabilities by truth, in one piece and mosaic by mosaic."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    jaccard_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from lightning_emseg.metrics.classes import MosaicCounts
from lightning_emseg.metrics.pixels import (
    Criterion,
    average_precision,
    choose_level,
    confusion_at,
    confusion_by_threshold,
    level_of,
    roc_auc,
    truth_histogram,
)
from tests.support.noisy_pixels import Pixels, as_pair, histograms, noisy_mosaics, noisy_pair


@example(noisy_pair(0, 500))
@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 255])), min_size=1, max_size=40).map(as_pair))
def test_histogram_counts_every_pixel_that_is_not_ignored(pair: tuple[Pixels, Pixels]) -> None:
    probability, truth = pair
    counts = truth_histogram(probability, truth)
    expected = np.zeros((2, 256), np.int64)
    for value, kind in zip(probability.tolist(), truth.tolist(), strict=True):
        if kind != 255:
            expected[kind, value] += 1
    np.testing.assert_array_equal(counts, expected)


def test_other_values_than_a_truths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        truth_histogram(np.zeros(3, np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="other than 0, 1 and 255"):
        truth_histogram(np.zeros(3, np.uint8), np.array([0, 1, 7], np.uint8))


def test_mosaic_histograms_sum_pieces_by_mosaic() -> None:
    metric = MosaicCounts(2)
    pairs = [noisy_pair(seed, 100) for seed in range(4)]
    for number, (probability, truth) in enumerate(pairs):
        metric.update(number % 2, torch.from_numpy(probability), torch.from_numpy(truth))
    counts, seen = metric.compute()
    assert seen.tolist() == [200, 200]
    for mosaic in (0, 1):
        whole = [np.concatenate([pairs[mosaic][part], pairs[mosaic + 2][part]]) for part in (0, 1)]
        np.testing.assert_array_equal(counts[mosaic], truth_histogram(whole[0], whole[1]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [1, 90, 128, 255])
def test_scores_equal_scikit_learn(seed: int, level: int) -> None:
    probability, truth = noisy_pair(seed)
    used = truth != 255
    found = confusion_at(truth_histogram(probability, truth), level)
    expected, predicted = truth[used] == 1, probability[used] >= level
    for positive, confusion in ((1, found), (0, found.of_background())):
        options = {"pos_label": bool(positive), "zero_division": 1.0}
        assert confusion.f1 == pytest.approx(f1_score(expected, predicted, **options), abs=1e-12)
        assert confusion.precision == pytest.approx(precision_score(expected, predicted, **options), abs=1e-12)
        assert confusion.recall == pytest.approx(recall_score(expected, predicted, **options), abs=1e-12)
        assert confusion.iou == pytest.approx(jaccard_score(expected, predicted, **options), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_scikit_learn(seed: int) -> None:
    probability, truth = noisy_pair(seed)
    used = truth != 255
    expected = average_precision_score(truth[used], probability[used])
    assert average_precision(truth_histogram(probability, truth)) == pytest.approx(expected, abs=1e-12)


@example(noisy_pair(0, 500))
@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 255])), min_size=1, max_size=40).map(as_pair))
def test_confusion_at_every_threshold_by_brute_force(pair: tuple[Pixels, Pixels]) -> None:
    probability, truth = pair
    every = confusion_by_threshold(truth_histogram(probability, truth))
    for level in (0, 1, 17, 90, 128, 254, 255):
        predicted = probability >= level
        assert every.tp[level] == np.sum(predicted & (truth == 1))
        assert every.fp[level] == np.sum(predicted & (truth == 0))
        assert every.fn[level] == np.sum(~predicted & (truth == 1))
        assert every.tn[level] == np.sum(~predicted & (truth == 0))


# Of U-RISC's published script: (prediction, truth) → precision, recall, F1.
@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        ([0, 0], [0, 1], (1.0, 0.0, 0.0)),
        ([0, 0], [0, 0], (1.0, 1.0, 1.0)),
        ([255, 0], [0, 0], (0.0, 1.0, 0.0)),
        ([255, 0], [0, 1], (0.0, 0.0, 0.0)),
        ([255, 255], [255, 255], (1.0, 1.0, 1.0)),
    ],
)
def test_conventions_for_empty_masks(
    predicted: list[int], truth: list[int], expected: tuple[float, float, float]
) -> None:
    found = confusion_at(truth_histogram(np.array(predicted, np.uint8), np.array(truth, np.uint8)), 128)
    assert (float(found.precision), float(found.recall), float(found.f1)) == expected


def test_average_precision_without_foreground_is_no_number() -> None:
    counts = truth_histogram(np.array([3, 200], np.uint8), np.array([0, 0], np.uint8))
    assert math.isnan(float(average_precision(counts)))


def test_level_is_the_smallest_that_reaches_the_threshold() -> None:
    for level in range(256):
        assert level_of(level / 255) == level
    for threshold in np.linspace(0, 1, 777):
        reached = [level for level in range(256) if level / 255 >= threshold - 1e-12]
        assert level_of(float(threshold)) == reached[0]


def test_level_survives_single_precision() -> None:
    # The threshold travels in checkpoints as a float32 buffer.
    for level in range(256):
        assert level_of(float(torch.tensor(level / 255))) == level


def counts_of(probability: list[int], truth: list[int]) -> NDArray[np.int64]:
    return truth_histogram(np.array(probability, np.uint8), np.array(truth, np.uint8))


@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random((6, 30, 40)) < 0.03).astype(np.uint8)
    probability = np.clip(random.normal(90 + 50 * truth, 40), 0, 255).astype(np.uint8)
    truth[random.random(truth.shape) < 0.1] = 255
    used = truth != 255
    expected = roc_auc_score(truth[used], probability[used])
    assert 0.7 < expected < 0.95
    assert roc_auc(truth_histogram(probability, truth)) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 17, 128, 254, 255]), st.sampled_from([0, 1, 255])), min_size=1),
)
def test_is_the_share_of_rightly_ordered_pairs(pixels: list[tuple[int, int]]) -> None:
    values, truth = (list(each) for each in zip(*pixels, strict=True))
    ones, zeros = ([value for value, kind in pixels if kind == wanted] for wanted in (1, 0))
    pairs = [(one > zero) + (one == zero) / 2 for one in ones for zero in zeros]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    assert float(roc_auc(counts_of(values, truth))) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_histograms_of_parts_add_up() -> None:
    random = np.random.default_rng(5)
    truth, probability = random.integers(0, 2, (8, 500), np.uint8), random.integers(0, 256, (8, 500), np.uint8)
    parts = sum(truth_histogram(p, t) for p, t in zip(probability, truth, strict=True))
    assert roc_auc(np.asarray(parts)) == roc_auc(truth_histogram(probability, truth))


def test_certain_and_blind_and_wrong_predictions() -> None:
    assert roc_auc(counts_of([0, 0, 255], [0, 0, 1])) == 1
    assert roc_auc(counts_of([7, 7, 7], [0, 0, 1])) == 0.5
    assert roc_auc(counts_of([255, 255, 0], [0, 0, 1])) == 0


def test_mosaics_without_both_classes_have_no_value() -> None:
    rows = [counts_of([0, 9, 9], truth) for truth in ([0, 0, 1], [0, 0, 0], [1, 1, 1], [255, 255, 255])]
    found = roc_auc(np.array(rows).reshape(2, 2, 2, 256))
    np.testing.assert_array_equal(found, [[0.75, np.nan], [np.nan, np.nan]])


def test_huge_counts_do_not_overflow() -> None:
    counts = np.zeros((2, 256), np.int64)
    counts[0, [0, 200]], counts[1, [100, 250]] = 10**11, 10**11
    assert float(roc_auc(counts)) == pytest.approx(0.75, abs=1e-15)


def f1(probability: Pixels, truth: Pixels, level: int) -> float:
    found, true = probability >= level, truth == 1
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


@pytest.mark.parametrize("criterion", ["mean_f1", "pooled_f1"])
def test_threshold_is_the_best_of_all(criterion: Criterion) -> None:
    mosaics = noisy_mosaics(3)
    chosen = choose_level(histograms(mosaics), criterion)
    if criterion == "pooled_f1":
        mosaics = [(np.concatenate([p for p, _ in mosaics]), np.concatenate([t for _, t in mosaics]))]
    curve = [np.mean([f1(*mosaic, level) for mosaic in mosaics]) for level in range(1, 256)]
    assert curve[chosen - 1] == pytest.approx(max(curve), abs=1e-12)


def test_criteria_choose_different_levels() -> None:
    counts = histograms(noisy_mosaics(3))
    assert len({choose_level(counts, "mean_f1"), choose_level(counts, "pooled_f1"), choose_level(counts, "fixed")}) == 3


def test_of_equal_maxima_the_middle_is_chosen() -> None:
    def counts(*probability: int) -> NDArray[np.int64]:
        return histograms([(np.array(probability, np.uint8), np.array([0, 0, 1, 1], np.uint8))])

    # Perfect from 51 to 200; nothing is found from 1 to 255.
    assert choose_level(counts(50, 50, 200, 200), "mean_f1") == 126
    assert choose_level(counts(0, 0, 0, 0), "mean_f1") == 128


def test_without_pixels_the_level_is_one_half() -> None:
    counts = histograms(noisy_mosaics(2))
    assert choose_level(counts, "fixed") == 128
    assert choose_level(np.zeros_like(counts), "mean_f1") == 128
    # Mosaics without pixels are left out of the mean.
    both = np.concatenate([counts, np.zeros_like(counts)])
    assert choose_level(both, "mean_f1") == choose_level(counts, "mean_f1")
