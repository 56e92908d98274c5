import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_modules.errors import UserError
from data_modules.images.grey import to_8_bit, volume_rule
from data_modules.images.image import Image, stored_array
from tests.support.convert_checks import Pixels, picture


@pytest.mark.parametrize("rule", ["percentile", "range", "dtype"])
def test_8_bit_stays_as_it_is(rule: str) -> None:
    brought, record = to_8_bit(picture(), rule, "a.png")
    np.testing.assert_array_equal(brought, picture())
    assert record == {"rule": "unchanged", "source_dtype": "uint8"}


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_percentiles_become_0_and_255(dtype: type[np.generic]) -> None:
    pixels = np.random.default_rng(0).normal(3000, 400, (700, 300)).astype(dtype)
    lo, hi = np.percentile(pixels, (0.1, 99.9))
    brought, record = to_8_bit(pixels, "percentile", "a.tif")
    exact = (np.clip(pixels.astype(float), lo, hi) - lo) / (hi - lo) * 255
    assert np.abs(brought - exact).max() <= 0.5 + 1e-6
    assert brought.min() == 0
    assert brought.max() == 255
    assert record["lo"] == pytest.approx(lo)
    assert record["clipped_fraction"] == pytest.approx(0.002, abs=2e-4)
    json.dumps(record)


def test_range_dtype_and_explicit_limits() -> None:
    pixels = np.array([[100, 200], [300, 65535]], np.uint16)
    np.testing.assert_array_equal(to_8_bit(pixels, "range", "a")[0], [[0, 0], [1, 255]])
    np.testing.assert_array_equal(to_8_bit(pixels, "dtype", "a")[0], [[0, 1], [1, 255]])
    explicit, record = to_8_bit(pixels, "100,300", "a")
    np.testing.assert_array_equal(explicit, [[0, 128], [255, 255]])
    assert record["clipped_fraction"] == 0.25
    np.testing.assert_array_equal(to_8_bit(np.array([[10, 20]], np.uint8), "10,20", "a")[0], [[0, 255]])
    np.testing.assert_array_equal(to_8_bit(np.array([[True, False]]), "percentile", "a")[0], [[255, 0]])


def test_rare_bright_spots_leave_a_range() -> None:
    pixels = np.zeros((100, 100), np.uint16)
    pixels[0, 0] = 7
    assert to_8_bit(pixels, "percentile", "a")[0][0, 0] == 255
    assert not to_8_bit(np.full((4, 4), 9, np.uint16), "percentile", "a")[0].any()


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
    grey, record = to_8_bit(pixels, "percentile", "a.tif")
    assert (record["lo"], record["hi"]) == (-128, 127)
    assert grey.tolist() == [[0, 0], [255, 255]]


def stack_of(volume: Pixels) -> Image:
    return stored_array("v", "", volume, volume.dtype)


def limits(volume: Pixels, rule: str) -> list[float]:
    return [float(value) for value in volume_rule(stack_of(volume), rule).split(",")]


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(kind) for kind in ("int16", "uint16", "int8")]),
        st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4)),
    )
)
@example(np.array([-128, 127], np.int8).reshape(2, 1, 1))
def test_integer_limits_are_numpys_of_the_whole_volume(volume: Pixels) -> None:
    least, greatest = int(volume.min()), int(volume.max())
    if least == greatest:
        return
    assert limits(volume, "range") == [least, greatest]
    # In 64 bits: numpy wraps round between neighbours that are far apart in 8 bits.
    low, high = np.percentile(volume.astype(np.int64), (0.1, 99.9))
    expected = [low, high] if low < high else [least, greatest]
    np.testing.assert_allclose(limits(volume, "percentile"), expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_float_limits_are_within_a_bin(seed: int) -> None:
    volume = np.random.default_rng(seed).normal(size=(40, 30, 30)).astype(np.float32)
    width = (float(volume.max()) - float(volume.min())) / 2**16
    np.testing.assert_allclose(limits(volume, "percentile"), np.percentile(volume, (0.1, 99.9)), atol=1.01 * width)


def test_many_pixels_at_the_extremes_are_not_clipped() -> None:
    volume = np.zeros((3, 50, 50), np.float32)
    volume[1] = 1
    volume[2] = 0.5
    assert limits(volume, "percentile") == [0.0, 1.0]


@pytest.mark.parametrize("rule", ["dtype", "0,4095", "range"])
def test_rules_without_a_need_for_limits_stay(rule: str) -> None:
    volume: Any = np.zeros((2, 3, 3), np.uint8 if rule == "range" else np.uint16)
    assert volume_rule(stack_of(volume), rule) == rule


def test_a_constant_volume_is_reported_and_becomes_0() -> None:
    with pytest.warns(UserWarning, match="7 everywhere"):
        assert volume_rule(stack_of(np.full((2, 3, 3), 7, np.int16)), "range") == "7.0,8.0"


def test_values_that_are_no_numbers_are_refused() -> None:
    volume = np.zeros((40, 3, 3), np.float32)
    volume[35, 1, 1] = np.nan
    with pytest.raises(UserError, match=r"v \(section 35\) has 1 pixels that are NaN or infinite"):
        volume_rule(stack_of(volume), "percentile")
