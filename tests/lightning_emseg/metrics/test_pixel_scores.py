"""Pixel scores against scikit-learn and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_score, recall_score

from lightning_emseg.metrics.histogram import truth_histogram
from lightning_emseg.metrics.mosaic_counts import MosaicHistograms
from lightning_emseg.metrics.pixel import average_precision, confusion_at, confusion_by_threshold, level_of

Pixels = NDArray[np.uint8]
pixels = hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, 255))


def _pair(seed: int, size: int = 3000, ignored: float = 0.1) -> tuple[Pixels, Pixels]:
    random = np.random.default_rng(seed)
    truth = (random.random(size) < 0.2).astype(np.uint8)
    probability = np.clip(random.normal(90 + 60 * truth, 40), 0, 255).astype(np.uint8)
    truth[random.random(size) < ignored] = 255
    return probability, truth


@given(probability=pixels, data=st.data())
def test_histogram_counts_every_pixel_that_is_not_ignored(probability: Pixels, data: st.DataObject) -> None:
    truth = data.draw(hnp.arrays(np.uint8, probability.shape, elements=st.sampled_from([0, 1, 255])))
    counts = truth_histogram(probability, truth)
    expected = np.zeros((2, 256), np.int64)
    for value, kind in zip(probability.tolist(), truth.tolist(), strict=True):
        if kind != 255:
            expected[kind, value] += 1
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [1, 90, 128, 255])
def test_scores_equal_scikit_learn(seed: int, level: int) -> None:
    probability, truth = _pair(seed)
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
    probability, truth = _pair(seed)
    used = truth != 255
    expected = average_precision_score(truth[used], probability[used])
    assert average_precision(truth_histogram(probability, truth)) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60)
@given(probability=pixels, data=st.data())
def test_confusion_at_every_threshold_by_brute_force(probability: Pixels, data: st.DataObject) -> None:
    truth = data.draw(hnp.arrays(np.uint8, probability.shape, elements=st.sampled_from([0, 1, 255])))
    every = confusion_by_threshold(truth_histogram(probability, truth))
    for level in (0, 1, 17, 128, 254, 255):
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


def test_histogram_refuses_what_is_no_truth() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        truth_histogram(np.zeros(3, np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="other than 0, 1 and 255"):
        truth_histogram(np.zeros(3, np.uint8), np.array([0, 1, 7], np.uint8))


def test_mosaic_histograms_sum_pieces_by_mosaic() -> None:
    metric = MosaicHistograms(2)
    pairs = [_pair(seed, 100) for seed in range(4)]
    for number, (probability, truth) in enumerate(pairs):
        metric.update(number % 2, torch.from_numpy(probability), torch.from_numpy(truth))
    counts, seen = metric.compute()
    assert seen.tolist() == [200, 200]
    for mosaic in (0, 1):
        whole = [np.concatenate([pairs[mosaic][part], pairs[mosaic + 2][part]]) for part in (0, 1)]
        np.testing.assert_array_equal(counts[mosaic], truth_histogram(whole[0], whole[1]))
