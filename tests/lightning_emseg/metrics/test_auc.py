"""Area under the ROC curve against scikit-learn and all pairs of pixels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lightning_emseg.metrics.auc import roc_auc
from lightning_emseg.metrics.histogram import truth_histogram

Pixels = NDArray[np.uint8]


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
