"""The threshold that validation mosaics suggest, against all 255 levels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_emseg.metrics.threshold import Criterion, choose_level
from tests.support.noisy_pixels import Pixels, histograms, noisy_mosaics


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
