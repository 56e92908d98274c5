"""Surfaces of masks against scipy's erosion."""

import numpy as np
from hypothesis import example, given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from lightning_emseg.metrics.boundary.surfaces import surface


@example(np.random.default_rng(0).random((30, 40)) < 0.9)
@example(np.random.default_rng(0).random((6, 7, 8)) < 0.95)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_surface_is_the_mask_without_its_erosion(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(surface(mask), mask & ~binary_erosion(mask))
