import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.images.masks import share_between, value_counts


@given(st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]), st.integers(0, 2**31))
def test_values_are_counted(dtype: type[np.generic], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 9, (13, 5)).astype(dtype)
    values, counts = value_counts(pixels)
    expected = np.unique(pixels, return_counts=True)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


@pytest.mark.parametrize(("top", "between"), [(1, (0.2, 0.8)), (255, (32, 223)), (65535, (8192, 57343))])
def test_values_an_eighth_off_are_between(top: int, between: tuple[float, float]) -> None:
    values = np.array([0, top // 8, *between, top - top // 8, top])
    assert share_between(values, np.array([1, 2, 3, 4, 5, 5]), top) == 7 / 20
