"""Numbers of places against a reference in plain integers, and against what chance allows."""

import itertools
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.stats import chisquare, kstest

from lightning_emseg.attribution.windows import (
    PRIORITY,
    Baseline,
    GreyWindow,
    baseline_window,
    location_hash,
    location_noise,
)

WORD = 2**64 - 1
KEYS = ((0, 0), (0, 1), (1, 0), (42, 7), (2**40, 123456789))
numbers = st.integers(-(2**40), 2**64 - 1)


def splitmix64(seed: int, count: int) -> list[int]:
    """The generator as published, one output after the other."""
    found = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & WORD
        mixed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & WORD
        found.append(mixed ^ (mixed >> 31))
    return found


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """In units of its standard error for independent values."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1]) * float(np.sqrt(first.size))


def test_reference_generator_gives_published_outputs() -> None:
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]


@given(
    key=st.lists(st.integers(0, 20), min_size=1, max_size=3), place=st.lists(st.integers(0, 20), min_size=1, max_size=3)
)
def test_hash_chains_outputs_of_the_reference_generator(key: list[int], place: list[int]) -> None:
    expected = len(key)
    for number in (*key, *place):
        expected = splitmix64(expected, number + 1)[-1]
    assert int(location_hash(key, place, [1] * len(place)).item()) == expected


@given(data=st.data(), axes=st.integers(2, 3), key=st.tuples(numbers, numbers))
def test_overlapping_windows_share_their_numbers(data: st.DataObject, axes: int, key: tuple[int, int]) -> None:
    origin = data.draw(st.tuples(*[st.integers(-50, 10**6)] * axes))
    shape = data.draw(st.tuples(*[st.integers(2, 9)] * axes))
    first = data.draw(st.tuples(*[st.integers(0, side - 1) for side in shape]))
    size = tuple(side - at for side, at in zip(shape, first, strict=True))
    inner = tuple(a + b for a, b in zip(origin, first, strict=True))
    part = tuple(slice(at, None) for at in first)
    for made in (location_hash, location_noise):
        np.testing.assert_array_equal(made(key, origin, shape)[part], made(key, inner, size))


def test_shape_and_type() -> None:
    assert location_hash((1,), (0, 0, 0), (2, 3, 4)).shape == (2, 3, 4)
    assert location_hash((1,), (0, 0), (2, 3)).dtype == np.uint64
    assert location_noise((1,), (0, 0), (2, 3)).dtype == np.uint8
    with pytest.raises(ValueError, match="zip"):
        location_hash((1,), (0, 0), (2, 3, 4))


def test_keys_and_axes_are_not_interchangeable() -> None:
    places: Sequence[tuple[tuple[int, ...], tuple[int, ...]]] = (
        ((1, 2), (3, 4)),
        ((2, 1), (3, 4)),
        ((1, 2), (4, 3)),
        ((1,), (2, 3, 4)),
        ((1, 2, 3), (4,)),
        ((1, 2, 0), (3, 4)),
        ((1, 2), (0, 3, 4)),
        ((-1, 2), (3, 4)),
    )
    found = {int(location_hash(key, place, [1] * len(place)).item()) for key, place in places}
    assert len(found) == len(places)


def test_large_window_has_no_number_twice() -> None:
    window = location_hash((5,), (9000, 9000), (512, 512))
    assert np.unique(window).size == window.size


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(512, 512), (16, 128, 128)])
def test_noise_is_uniform(key: tuple[int, int], shape: tuple[int, ...]) -> None:
    noise = location_noise(key, [700] * len(shape), shape)
    assert chisquare(np.bincount(noise.ravel(), minlength=256)).pvalue > 1e-3


@pytest.mark.parametrize("key", KEYS)
def test_every_bit_is_set_half_of_the_time(key: tuple[int, int]) -> None:
    window = location_hash(key, (0, 0), (512, 512))
    shares = np.array([np.mean((window >> np.uint64(bit)) & np.uint64(1)) for bit in range(64)])
    # 64 bits: at five standard errors chance would raise its hand once in 30,000 runs.
    assert np.abs(shares - 0.5).max() < 5 * 0.5 / 512


@pytest.mark.parametrize("shape", [(512, 512), (32, 96, 96)])
@pytest.mark.parametrize("origin", [0, 9000, -300])
def test_neighbours_are_not_correlated(shape: tuple[int, ...], origin: int) -> None:
    start = (origin,) * len(shape)
    noise = location_noise((3, 1), start, shape)
    steps = [*itertools.product((0, 1), repeat=len(shape)), *(tuple(16 * np.eye(len(shape), dtype=int)[0]),)]
    for step in steps[1:]:
        shifted = location_noise((3, 1), [origin + int(by) for by in step], shape)
        assert abs(correlation(noise, shifted)) < 4


def test_neighbours_are_independent_in_their_high_bits() -> None:
    noise = location_noise((0, 0), (0, 0), (512, 512)) >> 4
    for first, second in ((noise[:, :-1:2], noise[:, 1::2]), (noise[:-1:2], noise[1::2])):
        pairs = np.bincount((first.astype(np.int64) * 16 + second).ravel(), minlength=256)
        assert chisquare(pairs).pvalue > 1e-3


def test_axes_are_not_correlated() -> None:
    noise = location_noise((3, 1), (0, 0), (512, 512))
    upper = np.triu_indices(512, 1)
    assert abs(correlation(noise[upper], noise.T[upper])) < 4
    volume = location_noise((3, 1), (0, 0, 0), (64, 64, 64))
    assert abs(correlation(volume[5], volume[:, 5])) < 4
    assert abs(correlation(volume[0], location_noise((3, 1), (0, 0), (64, 64)))) < 4


def test_keys_are_not_correlated() -> None:
    windows = [location_noise(key, (100, 100), (512, 512)) for key in KEYS]
    for first, second in itertools.combinations(windows, 2):
        assert abs(correlation(first, second)) < 4


def test_noise_is_independent_of_priorities() -> None:
    key = (4, 2)
    priority = location_hash((PRIORITY, *key), (0, 0), (512, 512))
    noise = location_noise(key, (0, 0), (512, 512))
    # Pixels are chosen by low priority numbers: their noise must not be dark for it.
    chosen = noise.ravel()[np.argsort(priority.ravel())[:20000]]
    assert chisquare(np.bincount(chosen, minlength=256)).pvalue > 1e-3


def image_of(*shape: int) -> GreyWindow:
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
