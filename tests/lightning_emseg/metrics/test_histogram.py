"""Histograms of probabilities by truth, in one piece and mosaic by mosaic."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lightning_emseg.metrics.histogram import truth_histogram
from lightning_emseg.metrics.mosaic_counts import MosaicHistograms
from tests.support.noisy_pixels import Pixels, as_pair, noisy_pair


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
    metric = MosaicHistograms(2)
    pairs = [noisy_pair(seed, 100) for seed in range(4)]
    for number, (probability, truth) in enumerate(pairs):
        metric.update(number % 2, torch.from_numpy(probability), torch.from_numpy(truth))
    counts, seen = metric.compute()
    assert seen.tolist() == [200, 200]
    for mosaic in (0, 1):
        whole = [np.concatenate([pairs[mosaic][part], pairs[mosaic + 2][part]]) for part in (0, 1)]
        np.testing.assert_array_equal(counts[mosaic], truth_histogram(whole[0], whole[1]))
