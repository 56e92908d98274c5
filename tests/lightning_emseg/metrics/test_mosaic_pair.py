"""A prediction beside its truth: cells, distances and levels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lightning_emseg.metrics.mosaic_pair import MosaicPair


def test_another_level_keeps_results_of_the_truth() -> None:
    random = np.random.default_rng(0)
    truth: NDArray[np.uint8] = random.choice(np.array([0, 1, 255], np.uint8), (30, 40))
    probability = random.integers(0, 256, (30, 40)).astype(np.uint8)
    first = MosaicPair(truth, probability, 100, (1.0, 2.0))
    before = first.truth_cells, first.distance_to_truth_nm, first.predicted
    other = first.at(200)
    assert other.truth_cells is before[0]
    assert other.distance_to_truth_nm is before[1]
    np.testing.assert_array_equal(other.predicted, (probability >= 200) & (truth != 255))
    np.testing.assert_array_equal(before[0] > 0, truth == 0)


def test_distances_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    truth = (random.random((20, 30, 25)) < 0.02).astype(np.uint8)
    found = MosaicPair(truth, 255 * truth, 1, (40.0, 4.0, 4.0)).distance_to_truth_nm
    np.testing.assert_allclose(found, ndimage.distance_transform_edt(truth == 0, (40.0, 4.0, 4.0)), rtol=1e-5)


def test_shapes_and_pixel_sizes_have_to_fit() -> None:
    with pytest.raises(ValueError, match="no prediction of"):
        MosaicPair(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8), 1, (1.0, 1.0))
    with pytest.raises(ValueError, match="pixel sizes"):
        MosaicPair(np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8), 1, (1.0,))
