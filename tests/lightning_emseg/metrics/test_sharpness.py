"""Image sharpness criteria against the paper's formulas, written out, and against closed forms."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from lightning_emseg.metrics.sharpness import Sharpness, SharpnessSums, sharpness_sums

Image = NDArray[Any]
SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 8))
BYTES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape))
FLOATS = SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(0, 255)))


def by_hand(image: Image) -> dict[str, Fraction]:
    """Eqs. 3–6 pixel by pixel in exact fractions."""
    height, width = image.shape
    f = {(x, y): Fraction(image[y, x].item()) for y in range(height) for x in range(width)}
    mean = sum(f.values(), Fraction(0)) / (width * height)
    zero = Fraction(0)
    return {
        "brenner": sum(((f[x + 2, y] - f[x, y]) ** 2 for x, y in f if x + 2 < width), zero),
        "smd2": sum(
            (abs(f[x, y] - f[x + 1, y]) * abs(f[x, y] - f[x, y + 1]) for x, y in f if x + 1 < width and y + 1 < height),
            zero,
        ),
        "variance": sum(((value - mean) ** 2 for value in f.values()), zero),
        "vollath": sum((f[x, y] * f[x + 1, y] for x, y in f if x + 1 < width), zero) - width * height * mean**2,
    }


def in_bands(image: Image, cuts: list[int]) -> SharpnessSums:
    sums = SharpnessSums()
    for rows in np.split(image, sorted(cut % (len(image) + 1) for cut in cuts)):
        sums.update(rows)
    return sums


@example(np.random.default_rng(0).integers(0, 256, (11, 13), dtype=np.uint8))
@given(BYTES)
def test_sums_of_bytes_equal_the_formulas(image: Image) -> None:
    total, exact = sharpness_sums(image).total, by_hand(image)
    assert total.brenner == exact["brenner"]
    assert total.smd2 == exact["smd2"]
    assert total.variance == float(exact["variance"])
    assert total.vollath == float(exact["vollath"])


@pytest.mark.parametrize(("shape", "grey"), [((699, 701), 195), ((999, 1001), 117)])
def test_large_constant_images_have_no_variance(shape: tuple[int, int], grey: int) -> None:
    # Squares of these sums exceed the 53 bits of a float, which left a variance of rounding.
    sums = sharpness_sums(np.full(shape, grey, np.uint8))
    assert sums.total == Sharpness(0, 0, 0, -(grey**2) * shape[0])
    assert sums.per_pixel == Sharpness(0, 0, 0, 0)


@example(255 * np.random.default_rng(0).random((11, 13)))
@given(FLOATS)
def test_sums_of_floats_equal_the_formulas(image: Image) -> None:
    total = sharpness_sums(image).total
    scale = float((image**2).sum()) + 1e-300
    for name, value in by_hand(image).items():
        assert getattr(total, name) == pytest.approx(float(value), rel=1e-12, abs=1e-12 * scale)


@example(np.random.default_rng(0).integers(0, 256, (11, 13), dtype=np.uint8), [0, 1, 3, 4, 11])
@given(BYTES, st.lists(st.integers(0, 100), max_size=5))
def test_bands_of_any_heights_are_the_whole_exactly(image: Image, cuts: list[int]) -> None:
    banded, whole = in_bands(image, cuts), sharpness_sums(image)
    assert banded.total == whole.total
    assert banded.shape == whole.shape == image.shape
    np.testing.assert_array_equal(banded.per_pixel, whole.per_pixel)


@given(FLOATS, st.lists(st.integers(0, 100), max_size=5))
def test_bands_of_floats_are_the_whole_to_rounding(image: Image, cuts: list[int]) -> None:
    banded, whole = in_bands(image, cuts).total, sharpness_sums(image).total
    scale = float((image**2).sum()) + 1e-300
    for name in ("brenner", "smd2", "variance", "vollath"):
        assert getattr(banded, name) == pytest.approx(getattr(whole, name), rel=1e-12, abs=1e-12 * scale)


@given(BYTES.filter(lambda image: image.shape[0] > 1 and image.shape[1] > 2))
def test_per_pixel_values_are_means(image: Image) -> None:
    f = image.astype(np.float64)
    found = sharpness_sums(image).per_pixel
    assert found.brenner == pytest.approx(np.mean((f[:, 2:] - f[:, :-2]) ** 2))
    assert found.smd2 == pytest.approx(np.mean(np.abs(np.diff(f, axis=1)[:-1] * np.diff(f, axis=0)[:, :-1])))
    assert found.variance == pytest.approx(np.var(f))
    assert found.vollath == pytest.approx(np.mean(f[:, :-1] * f[:, 1:]) - f.mean() ** 2, abs=1e-9)


@pytest.mark.parametrize("value", [0, 1, 200, 0.7])
def test_a_constant_image_has_no_sharpness(value: float) -> None:
    image = np.full((5, 9), value)
    sums = sharpness_sums(image)
    # N (M − 1) products less M N μ² leave − N c².
    assert tuple(sums.total) == pytest.approx((0, 0, 0, -5 * value**2))
    assert tuple(sums.per_pixel) == pytest.approx((0, 0, 0, 0), abs=1e-12)


@pytest.mark.parametrize(("across", "down"), [(3, 0), (0, 2), (3, 2), (-3, 2)])
def test_a_linear_ramp_in_closed_form(across: int, down: int) -> None:
    height, width = 6, 11
    y, x = np.mgrid[:height, :width]
    total = sharpness_sums(100 + across * x + down * y).total
    assert total.brenner == height * (width - 2) * (2 * across) ** 2
    assert total.smd2 == (height - 1) * (width - 1) * abs(across * down)
    spread = across**2 * (width**2 - 1) / 12 + down**2 * (height**2 - 1) / 12
    assert total.variance == pytest.approx(height * width * spread)


def test_vollath_of_a_ramp_in_closed_form() -> None:
    height, width = 4, 10
    image = np.tile(np.arange(width), (height, 1))
    products = (width - 2) * (width - 1) * width / 3
    assert sharpness_sums(image).total.vollath == pytest.approx(height * (products - width * (width - 1) ** 2 / 4))


def test_a_checkerboard_of_many_pixels_is_exact() -> None:
    height, width = 4000, 3000
    sums = SharpnessSums()
    band = (255 * (np.indices((100, width)).sum(axis=0) % 2)).astype(np.uint8)
    for _ in range(height // 100):
        sums.update(band)
    squares = height * width * 255**2
    expected = Sharpness(0, (height - 1) * (width - 1) * 255**2, squares / 4, -squares / 4)
    assert sums.total == expected
    assert tuple(sums.per_pixel) == pytest.approx((0, 255**2, 255**2 / 4, -(255**2) / 4), rel=1e-12)


def test_the_brightest_16_bits_do_not_overflow() -> None:
    image = np.tile(np.array([0, 0, 65535, 65535], np.uint16), (1000, 300))
    total = sharpness_sums(image).total
    assert total.brenner == 1000 * 1198 * 65535**2
    assert total.variance == image.size * 65535**2 / 4


def test_brenner_and_vollath_look_along_x() -> None:
    stripes = np.tile(np.array([0, 0, 9, 9], np.uint8), (8, 2))  # change along x alone
    across, along = sharpness_sums(stripes).total, sharpness_sums(stripes.T).total
    assert across.brenner == 8 * 6 * 81
    assert along.brenner == 0
    assert along.vollath > across.vollath


def test_blurring_lowers_the_gradients_of_a_noisy_image() -> None:
    noisy = np.random.default_rng(1).integers(0, 256, (60, 70)).astype(np.float64)
    sharper = sharpness_sums(noisy).per_pixel
    for sigma in (0.5, 1, 2, 4):
        blurred = sharpness_sums(gaussian_filter(noisy, sigma)).per_pixel
        assert blurred.brenner < sharper.brenner
        assert blurred.smd2 < sharper.smd2
        assert blurred.variance < sharper.variance
        sharper = blurred


def test_per_pixel_values_do_not_depend_on_size() -> None:
    tile = np.random.default_rng(2).integers(0, 256, (32, 32), dtype=np.uint8)
    small, large = sharpness_sums(np.tile(tile, (4, 4))), sharpness_sums(np.tile(tile, (12, 12)))
    assert large.total.variance / small.total.variance == pytest.approx(9)
    for name in ("brenner", "smd2", "variance", "vollath"):
        scale = small.per_pixel.variance
        assert getattr(large.per_pixel, name) == pytest.approx(getattr(small.per_pixel, name), abs=0.05 * scale)


def test_a_sum_without_terms_has_no_mean() -> None:
    one = sharpness_sums(np.array([[7]], np.uint8))
    assert one.total == Sharpness(0, 0, 0, -49)
    assert one.per_pixel.variance == 0
    assert all(math.isnan(value) for value in (one.per_pixel.brenner, one.per_pixel.smd2, one.per_pixel.vollath))


def test_rows_must_be_images_of_one_width() -> None:
    sums = SharpnessSums()
    with pytest.raises(ValueError, match="without rows"):
        _ = sums.total
    with pytest.raises(ValueError, match="without rows"):
        _ = sums.per_pixel
    with pytest.raises(ValueError, match="cannot follow"):
        sums.update(np.zeros((2, 3, 4)))
    sums.update(np.zeros((0, 5), np.uint8))
    sums.update(np.zeros((2, 5), np.uint8))
    with pytest.raises(ValueError, match="cannot follow rows of 5 px"):
        sums.update(np.zeros((2, 6), np.uint8))
    assert sums.shape == (2, 5)
