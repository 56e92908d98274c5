"""A prediction beside its truth: cells, distances and levels."""

import numpy as np
import pytest
from scipy import ndimage

from lightning_emseg.metrics.mosaic_pair import MosaicPair


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
