import json

import numpy as np
import pytest

from data_modules.convert.grey import to_8_bit
from data_modules.errors import UserError
from tests.support.convert_checks import picture


@pytest.mark.parametrize("rule", ["percentile", "range", "dtype"])
def test_8_bit_stays_as_it_is(rule: str) -> None:
    brought = to_8_bit(picture(), rule, "a.png")
    np.testing.assert_array_equal(brought.pixels, picture())
    assert brought.record == {"rule": "unchanged", "source_dtype": "uint8"}


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_percentiles_become_0_and_255(dtype: type[np.generic]) -> None:
    pixels = np.random.default_rng(0).normal(3000, 400, (700, 300)).astype(dtype)
    lo, hi = np.percentile(pixels, (0.1, 99.9))
    brought = to_8_bit(pixels, "percentile", "a.tif")
    exact = (np.clip(pixels.astype(float), lo, hi) - lo) / (hi - lo) * 255
    assert np.abs(brought.pixels - exact).max() <= 0.5 + 1e-6
    assert brought.pixels.min() == 0
    assert brought.pixels.max() == 255
    assert brought.record["lo"] == pytest.approx(lo)
    assert brought.record["clipped_fraction"] == pytest.approx(0.002, abs=2e-4)
    json.dumps(brought.record)


def test_range_dtype_and_explicit_limits() -> None:
    pixels = np.array([[100, 200], [300, 65535]], np.uint16)
    np.testing.assert_array_equal(to_8_bit(pixels, "range", "a").pixels, [[0, 0], [1, 255]])
    np.testing.assert_array_equal(to_8_bit(pixels, "dtype", "a").pixels, [[0, 1], [1, 255]])
    explicit = to_8_bit(pixels, "100,300", "a")
    np.testing.assert_array_equal(explicit.pixels, [[0, 128], [255, 255]])
    assert explicit.record["clipped_fraction"] == 0.25
    np.testing.assert_array_equal(to_8_bit(np.array([[10, 20]], np.uint8), "10,20", "a").pixels, [[0, 255]])
    np.testing.assert_array_equal(to_8_bit(np.array([[True, False]]), "percentile", "a").pixels, [[255, 0]])


def test_rare_bright_spots_leave_a_range() -> None:
    pixels = np.zeros((100, 100), np.uint16)
    pixels[0, 0] = 7
    assert to_8_bit(pixels, "percentile", "a").pixels[0, 0] == 255
    assert not to_8_bit(np.full((4, 4), 9, np.uint16), "percentile", "a").pixels.any()


@pytest.mark.parametrize(
    ("value", "rule", "message"),
    [
        (np.nan, "percentile", "s.tif has 1 pixels that are NaN"),
        (np.inf, "0,1", "NaN or infinite"),
        (0.5, "dtype", "s.tif is float32"),
        (0.5, "bright", "none of percentile"),
        (0.5, "5,1", "smaller"),
    ],
)
def test_what_cannot_be_mapped_is_an_error(value: float, rule: str, message: str) -> None:
    pixels = np.zeros((4, 4), np.float32)
    pixels[1, 1] = value
    with pytest.raises(UserError, match=message):
        to_8_bit(pixels, rule, "s.tif")


def test_complex_values_are_refused() -> None:
    with pytest.raises(UserError, match="complex"):
        to_8_bit(np.zeros((2, 2), np.complex64), "range", "a")


def test_percentiles_of_signed_values_do_not_wrap() -> None:
    pixels = np.array([[-128, -128], [127, 127]], np.int8)
    grey = to_8_bit(pixels, "percentile", "a.tif")
    assert (grey.record["lo"], grey.record["hi"]) == (-128, 127)
    assert grey.pixels.tolist() == [[0, 0], [255, 255]]
