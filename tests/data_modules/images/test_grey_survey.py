"""Every rule to 8 bit agrees with NumPy on the whole source, however it comes in pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_modules.images import grey as grey_rules
from data_modules.images.grey import Survey, to_8_bit
from data_modules.images.image import RefusedError

TYPES = ("u1", "i1", "u2", "i2", "i4", "u4", "f4", "f8")


def values(dtype: str, seed: int, size: int = 997) -> NDArray[Any]:
    generator = np.random.default_rng(seed)
    normal = generator.normal(50, 20 if dtype.endswith("1") else 900, size)
    if np.dtype(dtype).kind != "f":
        normal = normal.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    return normal.astype(dtype)


def surveyed(pixels: NDArray[Any], pieces: int = 1) -> Survey:
    seen = Survey(pixels.dtype, pixels.size, "a.tif")
    for piece in np.array_split(pixels, pieces):
        seen.add(piece)
    return seen


@given(pieces=st.integers(1, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("rule", ["percentile", "range", "dtype", "-20.5,90"])
@pytest.mark.parametrize("dtype", TYPES)
def test_rules_equal_those_of_one_whole_image(dtype: str, rule: str, pieces: int, seed: int) -> None:
    pixels = values(dtype, seed)
    if rule == "dtype" and pixels.dtype.kind == "f":
        with pytest.raises(RefusedError, match="no full range"):
            surveyed(pixels, pieces).to_grey(rule)
        return
    grey = surveyed(pixels, pieces).to_grey(rule)
    expected, record = to_8_bit(pixels[None], rule, "a.tif")
    # A limit in another last bit may round another way where a value lies half-way.
    assert np.abs(grey.apply(pixels[None], "a.tif").astype(int) - expected).max() <= 1
    assert np.mean(grey.apply(pixels[None], "a.tif") != expected) < 0.01
    for key, value in record.items():
        assert grey.record[key] == (value if isinstance(value, str) else pytest.approx(value))


@given(seed=st.integers(0, 99), size=st.integers(2, 5000), dtype=st.sampled_from(("i1", "u2", "i2")))
def test_counted_percentiles_are_exact(seed: int, size: int, dtype: str) -> None:
    pixels = values(dtype, seed, size)
    pixels[0], pixels[1] = 0, 1
    grey = surveyed(pixels, min(3, size)).to_grey("percentile")
    lo, hi = np.percentile(pixels, (0.1, 99.9))
    if lo < hi:
        assert (grey.lo, grey.hi) == pytest.approx((lo, hi), abs=1e-9)


def test_sampled_percentiles_are_near_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grey_rules, "SAMPLE", 50_000)
    pixels = np.random.default_rng(1).normal(size=(50, 100, 80)).astype(np.float32)
    grey = surveyed(pixels, 7).to_grey("percentile")
    assert grey.record["of"] == "all pixels, one of every 8 at random"
    assert (grey.lo, grey.hi) == pytest.approx(np.percentile(pixels, (0.1, 99.9)), abs=0.15)
    assert (surveyed(pixels).to_grey("range").lo, grey.record["clipped_fraction"]) == (
        pixels.min(), pytest.approx(0.002, abs=3e-4),
    )  # fmt: skip


def test_eight_bits_stay_and_one_bit_becomes_grey() -> None:
    pixels = values("u1", 0)
    grey = surveyed(pixels).to_grey("percentile")
    np.testing.assert_array_equal(grey.apply(pixels, "a"), pixels)
    assert grey.record == {"rule": "unchanged", "source_dtype": "uint8"}
    # Means of boxes are floating point.
    np.testing.assert_array_equal(grey.apply(pixels.astype(np.float64), "a"), pixels)
    bits = pixels > 50
    np.testing.assert_array_equal(surveyed(bits).to_grey("percentile").apply(bits, "a"), bits * np.uint8(255))


def test_limits_that_fall_together_become_the_range() -> None:
    pixels = np.zeros(5000, np.int16)
    pixels[7] = 9
    assert surveyed(pixels).to_grey("percentile").hi == 9


def test_nan_and_constant_sources_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"a part of a\.tif has 1 pixels that are NaN"):
        surveyed(np.asarray([0.0, np.nan]))
    with pytest.raises(RefusedError, match=r"a part of a\.tif has 1 pixels that are NaN"):
        surveyed(np.asarray([0.0, np.inf], np.float32))
    with pytest.raises(RefusedError, match=r"a\.tif is constant: every pixel is 7"):
        surveyed(np.full(9, 7, np.uint8)).to_grey("percentile")
