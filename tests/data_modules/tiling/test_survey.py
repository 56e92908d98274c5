"""Every rule to 8 bit agrees with NumPy on the whole source, however it comes in pieces."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from data_modules.images.grey import to_8_bit
from data_modules.images.image import RefusedError
from data_modules.images.pages import find_images
from data_modules.tiling import survey
from data_modules.tiling.survey import Survey, is_inverted, polarity
from tests.support import DATA

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
    expected = to_8_bit(pixels[None], rule, "a.tif")
    # A limit in another last bit may round another way where a value lies half-way.
    assert np.abs(grey.apply(pixels[None], "a.tif").astype(int) - expected.pixels).max() <= 1
    assert np.mean(grey.apply(pixels[None], "a.tif") != expected.pixels) < 0.01
    for key, value in expected.record.items():
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
    monkeypatch.setattr(survey, "SAMPLE", 50_000)
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
    with pytest.raises(RefusedError, match=r"a\.tif has NaN or infinite pixels"):
        surveyed(np.asarray([0.0, np.nan]))
    with pytest.raises(RefusedError, match=r"a\.tif has NaN or infinite pixels"):
        surveyed(np.asarray([0.0, np.inf], np.float32))
    with pytest.raises(RefusedError, match=r"a\.tif is constant: every pixel is 7"):
        surveyed(np.full(9, 7, np.uint8)).to_grey("percentile")


DARK = (
    "isbi2012/train/images/00.png", "isbi2012/test/images/00.png", "vnc_sstem/stack1/raw/00.png",
    "vnc_sstem/stack2/raw/00.png", "sbem_mito_cdeep3m/training/images/010.png", "fib25_medulla/raw.tif",
    "gala_fibsem/train_raw.tif", "cremi2d_membrane/images/0114.png", "cem_examples/images/er.png",
)  # fmt: skip
"""Sets in which stain is dark by their description or by eye."""


def cells(seed: int, line: int, ground: int) -> NDArray[np.uint8]:
    """Cells with a wall of about three px between them."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros((256, 256), bool)
    seeds[tuple(generator.integers(0, 256, (2, 60)))] = True
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    ids = nearest[0] * 256 + nearest[1]
    wall = ndimage.maximum_filter(ids, 3) != ndimage.minimum_filter(ids, 3)
    image = np.where(wall, line, ground) + generator.normal(0, 8, (256, 256))
    return image.clip(0, 255).astype(np.uint8)


@given(seed=st.integers(0, 999), line=st.integers(30, 80))
def test_walls_decide(seed: int, line: int) -> None:
    assert is_inverted(polarity([cells(seed, line, 160)])) == "no"
    assert is_inverted(polarity([cells(seed, 255 - line, 95)])) == "yes"


def test_inverting_changes_the_sign_only() -> None:
    images = [cells(1, 60, 160), cells(2, 90, 150)[:100]]
    assert polarity([~image for image in images]) == pytest.approx(-polarity(images), abs=1e-5)


def test_noise_and_flat_images_are_unclear() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512)).astype(np.uint8)
    assert is_inverted(polarity([noise])) == "unclear"
    assert polarity([np.full((64, 64), 9, np.uint8)]) == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data of ../shared/data is not here")
@pytest.mark.parametrize("name", DARK)
def test_real_dark_stain_is_not_inverted(name: str) -> None:
    pages = [page.read()[:512, :512] for page in find_images(str(DATA / name))[::20]]
    assert is_inverted(polarity(pages)) == "no"
    assert is_inverted(polarity([~page for page in pages])) == "yes"


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data of ../shared/data is not here")
def test_bright_myelin_of_backscattered_electrons_is_inverted() -> None:
    pages = [page.read() for page in find_images(str(DATA / "sem_myelin_ads" / "images"))]
    assert is_inverted(polarity(pages)) == "yes"
