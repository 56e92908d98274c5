"""Baselines against what they are said to be."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.stats import kstest

from lightning_emseg.attribution.baselines import Baseline, Grey, baseline_window


def image_of(*shape: int) -> Grey:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize("kind", get_args(Baseline))
@pytest.mark.parametrize("shape", [(1, 20, 31), (3, 16, 17), (2, 5, 9, 8)])
def test_shape_type_and_range(kind: Baseline, shape: tuple[int, ...]) -> None:
    image = image_of(*shape)
    before = image.copy()
    found = baseline_window(kind, image, (0, 1), (0,) * len(shape[1:]), (40.0,) * len(shape[1:]))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 255
    np.testing.assert_array_equal(image, before)


def test_zero_and_mean_baselines_are_constant() -> None:
    image = image_of(1, 8, 9)
    assert not baseline_window("zero", image, (0, 0), (0, 0), (4.0, 4.0)).any()
    assert (baseline_window("mean", image, (0, 0), (0, 0), (4.0, 4.0)) == 127.5).all()


def test_noise_is_uniform_and_independent() -> None:
    image = image_of(2, 128, 128)
    first = baseline_window("noise", image, (0, 0), (0, 0), (4.0, 4.0))
    assert set(np.unique(first)) == set(range(256))
    jitter = np.random.default_rng(1).uniform(0, 1, first[0].size)
    assert kstest((first[0].ravel() + jitter) / 256, "uniform").pvalue > 1e-3
    others = [first[1], *(baseline_window("noise", image, key, (0, 0), (4.0, 4.0))[0] for key in ((1, 0), (0, 1)))]
    for other in others:
        assert abs(np.corrcoef(first[0].ravel(), other.ravel())[0, 1]) < 0.03


@given(
    seed=st.integers(0, 2**40),
    origin=st.tuples(st.integers(0, 10**5), st.integers(0, 10**5)),
    shift=st.tuples(st.integers(0, 7), st.integers(0, 8)),
)
def test_noise_depends_on_absolute_position(seed: int, origin: tuple[int, int], shift: tuple[int, int]) -> None:
    first = baseline_window("noise", image_of(2, 8, 9), (seed, 3), origin, (4.0, 4.0))
    moved = (origin[0] + shift[0], origin[1] + shift[1])
    second = baseline_window("noise", image_of(2, 8, 9), (seed, 3), moved, (4.0, 4.0))
    np.testing.assert_array_equal(first[:, shift[0] :, shift[1] :], second[:, : 8 - shift[0], : 9 - shift[1]])


def test_blur_is_gaussian_of_200_nm() -> None:
    image = image_of(2, 60, 64)
    found = baseline_window("blurred", image, (0, 0), (0, 0), (50.0, 25.0))
    expected = image.astype(np.float64)
    for axis, sigma in ((1, 4.0), (2, 8.0)):
        places = np.arange(-64, 65)
        kernel = np.exp(-(places**2) / (2 * sigma**2))
        expected = convolve1d(expected, kernel / kernel.sum(), axis, mode="reflect")
    # Scipy's own Gaussian ends at four standard deviations.
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_blur_keeps_constant_channels() -> None:
    image = np.stack([np.full((30, 30), 10, np.float32), np.full((30, 30), 200, np.float32)])
    np.testing.assert_allclose(baseline_window("blurred", image, (0, 0), (0, 0), (4.0, 4.0)), image, rtol=1e-5)


def test_volumes_are_blurred_section_by_section() -> None:
    image = np.random.default_rng(3).uniform(0, 255, (1, 5, 40, 44)).astype(np.float32)
    found = baseline_window("blurred", image, (0, 0), (0, 0, 0), (40.0, 50.0, 25.0))
    for section, blurred in zip(image[0], found[0], strict=True):
        np.testing.assert_allclose(blurred, gaussian_filter(section, (4.0, 8.0), mode="reflect"), rtol=1e-5)
